#include "models/hub/transfer.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "base/signals.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;

constexpr int kAttempts = 5;
constexpr size_t kMaxText = size_t{64} << 20;

struct CloseCurl {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// Waits before the next attempt; false where Ctrl-C ended the wait.
bool pause_before(int attempt) {
  const char* unit = std::getenv("DEEPSEEK_RETRY_MS");  // tests wait less
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds((unit != nullptr ? std::atol(unit) : 1000) << attempt);
  while (!base::interrupted() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return !base::interrupted();
}

bool may_pass(CURLcode code, long status) {
  if (code == CURLE_OK) return status == 429 || status >= 500;
  return code != CURLE_WRITE_ERROR && code != CURLE_ABORTED_BY_CALLBACK && code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
         code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_PEER_FAILED_VERIFICATION;
}

struct Session {
  std::unique_ptr<CURL, CloseCurl> handle;
  std::unique_ptr<curl_slist, FreeList> headers;
  char error[CURL_ERROR_SIZE] = "";
};

std::unique_ptr<Session> session(const std::string& url, const std::string& token) {
  static const bool kReady = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  auto out = std::make_unique<Session>();
  if (!kReady) return out;
  out->handle.reset(curl_easy_init());
  CURL* curl = out->handle.get();
  if (!token.empty()) out->headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + token).c_str()));
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, out->headers.get());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "deepseek-cli");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 20L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 100L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, out->error);
  return out;
}

size_t take_text(char* data, size_t size, size_t count, void* out) {
  auto& text = *static_cast<std::string*>(out);
  if (text.size() + size * count > kMaxText) return 0;
  text.append(data, size * count);
  return size * count;
}

// Headers of the first answer that is not "100 Continue".
struct HeaderSink {
  std::map<std::string, std::string>* headers;
  int answers = 0;
};

size_t take_header(char* data, size_t size, size_t count, void* out) {
  auto& sink = *static_cast<HeaderSink*>(out);
  const std::string line(data, size * count);
  if (line.starts_with("HTTP/")) ++sink.answers;
  const size_t colon = line.find(':');
  if (sink.answers == 1 && colon != std::string::npos) {
    std::string name = line.substr(0, colon), value = line.substr(colon + 1);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    value.erase(0, value.find_first_not_of(" \t"));
    value.erase(value.find_last_not_of(" \t\r\n") + 1);
    (*sink.headers)[name] = value;
  }
  return size * count;
}

int until_interrupted(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return base::interrupted() ? 1 : 0; }

std::string reason_of(const Session& session, CURLcode code) { return session.error[0] != 0 ? session.error : curl_easy_strerror(code); }

struct FileSink {
  std::FILE* file;
  CURL* curl;
  uint64_t had = 0, written = 0, limit = 0;
  bool checked = false, too_long = false, interrupted = false;
  const std::function<bool(uint64_t)>* progress;
};

size_t take_file(char* data, size_t size, size_t count, void* out) {
  auto& sink = *static_cast<FileSink*>(out);
  if (!sink.checked) {
    sink.checked = true;
    long status = 0;
    curl_easy_getinfo(sink.curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && sink.had > 0) {  // the server does not know ranges: from the beginning
      if (::ftruncate(::fileno(sink.file), 0) != 0) return 0;
      std::rewind(sink.file);
      sink.had = 0;
    } else if (status != 200 && status != 206) {
      return size * count;  // an error's text, not the file
    }
  }
  long status = 0;
  curl_easy_getinfo(sink.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200 && status != 206) return size * count;
  if (sink.limit > 0 && sink.had + sink.written + size * count > sink.limit) {
    sink.too_long = true;
    return 0;
  }
  const size_t written = std::fwrite(data, 1, size * count, sink.file);
  sink.written += written;
  return written;
}

int report(void* out, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& sink = *static_cast<FileSink*>(out);
  if (*sink.progress && !(*sink.progress)(sink.had + sink.written)) {
    sink.interrupted = true;
    return 1;
  }
  return 0;
}

Result<std::string> digest(const fs::path& file, const EVP_MD* kind, const std::string& prefix) {
  const std::unique_ptr<std::FILE, CloseFile> input(std::fopen(file.c_str(), "rb"));
  if (!input) return fail("cannot read {}: {}", file.string(), std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), kind, nullptr);
  EVP_DigestUpdate(context.get(), prefix.data(), prefix.size());
  std::string buffer(1 << 20, '\0');
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), input.get())) > 0;) EVP_DigestUpdate(context.get(), buffer.data(), n);
  if (std::ferror(input.get()) != 0) return fail("cannot read {}", file.string());
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), bytes, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", bytes[i]);
  return hex;
}

}  // namespace

Result<Reply> fetch_text(const std::string& url, const std::string& token, bool head) {
  for (int attempt = 0;; ++attempt) {
    const auto transfer = session(url, token);
    CURL* curl = transfer->handle.get();
    if (curl == nullptr) return fail("libcurl cannot be started");
    Reply reply;
    HeaderSink sink{&reply.headers};
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply.body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &sink);
    curl_easy_setopt(curl, head ? CURLOPT_NOBODY : CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, until_interrupted);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    if (may_pass(code, reply.status) && attempt + 1 < kAttempts && pause_before(attempt)) continue;
    if (base::interrupted()) return fail(kInterrupted);
    if (code != CURLE_OK) return fail("cannot reach {}: {}", url, reason_of(*transfer, code));
    return reply;
  }
}

Result<long> fetch_file(const std::string& url, const std::string& token, const fs::path& path, uint64_t size,
                        const std::function<bool(uint64_t)>& progress) {
  for (int attempt = 0;; ++attempt) {
    const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "ab"));
    if (!file) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
    std::fseek(file.get(), 0, SEEK_END);
    FileSink sink{.file = file.get(), .curl = nullptr, .had = static_cast<uint64_t>(std::ftell(file.get())), .limit = size, .progress = &progress};
    if (size > 0 && sink.had == size) return 200;
    if (size > 0 && sink.had > size) {
      if (::ftruncate(::fileno(file.get()), 0) != 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
      sink.had = 0;
    }
    const auto transfer = session(url, token);
    CURL* curl = sink.curl = transfer->handle.get();
    if (curl == nullptr) return fail("libcurl cannot be started");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_file);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &sink);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, report);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &sink);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (sink.had > 0) curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(sink.had));
    errno = 0;
    const CURLcode code = curl_easy_perform(curl);
    const int trouble = errno;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    const bool flushed = std::fflush(file.get()) == 0;
    if (code == CURLE_RANGE_ERROR && attempt + 1 < kAttempts) {  // the server does not know ranges: from the beginning
      if (::ftruncate(::fileno(file.get()), 0) != 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
      continue;
    }
    if (sink.interrupted) return fail(kInterrupted);
    if (sink.too_long) return fail("{} is longer than the {} bytes that were announced", url, size);
    if (code == CURLE_WRITE_ERROR || !flushed) return fail("cannot write {}: {}", path.string(), std::strerror(trouble != 0 ? trouble : errno));
    const bool whole = code == CURLE_OK && (status == 200 || status == 206) && (size == 0 || sink.had + sink.written == size);
    if (whole && ::fsync(::fileno(file.get())) != 0) return fail("cannot write {}: {}", path.string(), std::strerror(errno));
    if (whole) return status;
    if ((may_pass(code, status) || code == CURLE_OK) && (status < 400 || status == 429 || status >= 500) && attempt + 1 < kAttempts) {
      if (sink.written > 0) attempt = -1;  // it moves: begin to count anew
      if (!pause_before(std::max(attempt, 0))) return fail(kInterrupted);
      continue;
    }
    if (code != CURLE_OK) return fail("lost the connection to {}: {}; what was fetched is kept, the same command goes on", url, reason_of(*transfer, code));
    if (status >= 400) return status;
    return fail("{} ended after {} of {} bytes; the same command goes on", url, sink.had + sink.written, size);
  }
}

Result<std::string> sha256_of(const fs::path& file) { return digest(file, EVP_sha256(), ""); }

Result<std::string> git_blob_sha1_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error) return fail("cannot read {}: {}", file.string(), error.message());
  return digest(file, EVP_sha1(), fmt::format("blob {}", size) + '\0');
}

}  // namespace deepseek::models
