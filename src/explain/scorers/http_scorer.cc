// Models that are servers: one POST for each batch.
#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "base/json.h"
#include "base/text.h"
#include "explain/scorers/kinds.h"
#include "explain/scorers/sigpipe.h"
#include "explain/scorers/wire.h"

namespace deepseek::explain {
namespace {

using base::Result;

constexpr int64_t kLongestPause = 60'000;  // milliseconds, whatever a server asks for
constexpr int kStopStep = 50;              // milliseconds between two looks at stop_requested

struct CloseCurl {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct CloseMulti {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

struct Reply {
  CURLcode code = CURLE_OK;
  long status = 0;
  std::string body, reason, moved_to;
  size_t most_bytes = 0;
  bool too_long = false, stopped = false;
  int64_t wait = 0;  // milliseconds, as the server wishes
};

size_t take(char* data, size_t size, size_t count, void* out) {
  auto& reply = *static_cast<Reply*>(out);
  if (reply.body.size() + size * count > reply.most_bytes) {
    reply.too_long = true;
    return 0;
  }
  reply.body.append(data, size * count);
  return size * count;
}

bool may_pass(const Reply& reply) {
  switch (reply.code) {
    case CURLE_OK: return reply.status == 429 || reply.status >= 500;
    case CURLE_WRITE_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PEER_FAILED_VERIFICATION: return false;
    default: return true;
  }
}

// What a server says of a refusal: the sentence in the JSON that most frameworks send, else the beginning of the body.
std::string sentence_of(const std::string& body) {
  std::string text = body;
  if (const auto json = base::parse_json(body, 16); json && json->is_object()) {
    for (const char* name : {"error", "detail", "message"}) {
      const auto found = json->find(name);
      if (found == json->end()) continue;
      if (found->is_string()) text = found->get<std::string>();
      else if (found->is_object() && found->contains("message") && (*found)["message"].is_string()) text = (*found)["message"].get<std::string>();
      else continue;
      break;
    }
  }
  constexpr size_t kShown = 300;
  std::string shown = base::to_valid_utf8(std::string_view(text).substr(0, kShown));
  std::replace_if(shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  shown.erase(shown.find_last_not_of(' ') + 1);
  return text.size() > kShown ? shown + " ..." : shown;
}

class HttpClient {
 public:
  HttpClient(std::string url, const ScorerOptions& options) : url_(std::move(url)), timeout_(options.timeout), retries_(options.retries), stop_requested_(options.stop_requested) {
    static const bool kReady = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    if (!kReady) return;
    multi_.reset(curl_multi_init());
    easy_.reset(curl_easy_init());
    for (const char* header : {"Content-Type: application/json", "Accept: application/json", "Expect:"}) headers_.reset(curl_slist_append(headers_.release(), header));
  }

  Result<std::string> post(const std::string& request, size_t most_bytes) {
    const std::lock_guard lock(one_at_a_time_);
    if (!multi_ || !easy_) return base::fail("libcurl cannot be started");
    for (int attempt = 0;; ++attempt) {
      Reply reply{.most_bytes = most_bytes};
      once(request, reply);
      if (reply.code == CURLE_OK && reply.status >= 200 && reply.status < 300) return std::move(reply.body);
      if (!reply.stopped && may_pass(reply) && attempt < retries_ && pause(attempt, reply.wait)) continue;
      if (reply.stopped || stopped()) return base::fail("interrupted");
      return base::fail("{}{}", what_happened(reply), attempt == 0 ? "" : fmt::format(", {} times for the same batch", attempt + 1));
    }
  }

 private:
  [[nodiscard]] bool stopped() const { return stop_requested_ && stop_requested_(); }

  void prepare(const std::string& request, Reply& reply) {
    CURL* curl = easy_.get();
    curl_easy_reset(curl);  // keeps its connection
    curl_easy_setopt(curl, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "deepseek-cli");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(std::clamp(timeout_ * 1000, 1.0, 1e9)));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.data());
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    error_[0] = 0;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error_);
  }

  void once(const std::string& request, Reply& reply) {
    const SigpipeGuard guard;  // TLS writes without MSG_NOSIGNAL
    prepare(request, reply);
    CURL* curl = easy_.get();
    curl_multi_add_handle(multi_.get(), curl);
    for (int running = 1; running > 0;) {
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) break;
      if (running == 0 || (reply.stopped = stopped())) break;
      curl_multi_poll(multi_.get(), nullptr, 0, kStopStep, nullptr);
    }
    reply.code = CURLE_RECV_ERROR;
    int left = 0;
    for (const CURLMsg* message = nullptr; (message = curl_multi_info_read(multi_.get(), &left)) != nullptr;) {
      if (message->msg == CURLMSG_DONE) reply.code = message->data.result;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0) reply.wait = std::min<int64_t>(seconds, kLongestPause / 1000) * 1000;
    const char* moved_to = nullptr;
    if (curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &moved_to) == CURLE_OK && moved_to != nullptr) reply.moved_to = moved_to;
    reply.reason = error_[0] != 0 ? error_ : curl_easy_strerror(reply.code);
    curl_multi_remove_handle(multi_.get(), curl);
  }

  [[nodiscard]] std::string what_happened(const Reply& reply) const {
    if (reply.too_long) return fmt::format("its answer is longer than {}", base::human_bytes(reply.most_bytes));
    if (reply.code == CURLE_OPERATION_TIMEDOUT) return fmt::format("it gave no answer within {:.3g} s", timeout_);
    if (reply.code != CURLE_OK) return fmt::format("it cannot be reached: {}", reply.reason);
    // A batch of somebody's data goes to the address that was given, and to no other.
    if (!reply.moved_to.empty()) return fmt::format("it points to {}; give that address", shown_url(reply.moved_to));
    const std::string sentence = sentence_of(reply.body);
    return fmt::format("it answered with status {}{}{}", reply.status, sentence.empty() ? "" : ": ", sentence);
  }

  // Waits before the next attempt; false where the wait was ended.
  [[nodiscard]] bool pause(int attempt, int64_t wish) const {
    const char* unit = std::getenv("DEEPSEEK_RETRY_MS");  // tests wait less
    const int64_t wait = std::clamp<int64_t>((unit != nullptr ? std::atol(unit) : 500) << std::min(attempt, 10), wish, kLongestPause);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait);
    while (!stopped() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return !stopped();
  }

  std::string url_;
  double timeout_;
  int retries_;
  std::function<bool()> stop_requested_;
  std::mutex one_at_a_time_;
  std::unique_ptr<CURLM, CloseMulti> multi_;
  std::unique_ptr<CURL, CloseCurl> easy_;
  std::unique_ptr<curl_slist, FreeList> headers_;
  char error_[CURL_ERROR_SIZE] = "";
};

}  // namespace

base::Result<TableModel> open_http(const std::string& url, const ScorerOptions& options, const KnownColumns& known) {
  const auto client = std::make_shared<HttpClient>(url, options);
  return open_remote("HTTP", [client](const std::string& request, size_t most_bytes) { return client->post(request, most_bytes); }, options, known);
}

}  // namespace deepseek::explain
