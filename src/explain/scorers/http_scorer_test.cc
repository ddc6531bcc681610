// Servers as models, against a small one in a thread.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "explain/scorers/kinds.h"
#include "explain/scorers/scorer_test.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Gives each connection one answer of a list, the last one again and again; closes it then. "" hangs up, "hang" waits for the test's end.
class Server {
 public:
  explicit Server(std::vector<std::string> answers) : answers_(std::move(answers)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    over_ = true;
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] std::string url(const std::string& user = "") const { return fmt::format("http://{}127.0.0.1:{}/score", user, port_); }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  [[nodiscard]] bool wait_for(int fd) const {
    for (pollfd waiting{fd, POLLIN, 0}; !over_;) {
      if (::poll(&waiting, 1, 10) > 0) return true;
    }
    return false;
  }
  std::string read_request(int fd) const {
    std::string text(65536, '\0'), request;
    while (wait_for(fd)) {
      const ssize_t count = ::read(fd, text.data(), text.size());
      if (count <= 0) break;
      request.append(text, 0, static_cast<size_t>(count));
      const size_t head = request.find("\r\n\r\n"), length = request.find("Content-Length: ");
      if (head != std::string::npos && length != std::string::npos && request.size() >= head + 4 + std::stoul(request.substr(length + 16))) break;
    }
    return request;
  }
  void serve() {
    for (size_t i = 0; wait_for(listener_); ++i) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      const std::string request = read_request(fd), answer = answers_[std::min(i, answers_.size() - 1)];
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      while (answer == "hang" && !over_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      for (size_t sent = 0; sent < answer.size() && !over_;) {
        const ssize_t count = ::send(fd, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += static_cast<size_t>(count);
      }
      ::close(fd);
    }
  }

  std::vector<std::string> answers_, requests_;
  int listener_, port_ = 0;
  std::atomic<bool> over_{false};
  std::mutex mutex_;
  std::thread thread_;
};

std::string answer(const std::string& status, const std::string& body, const std::string& headers = "") {
  return fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}", status, body.size(), headers, body);
}
std::string good(const std::string& body) { return answer("200 OK", body); }

class Http : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("DEEPSEEK_RETRY_MS", "1", 1);
    ::setenv("no_proxy", "127.0.0.1", 1);
    options.features = columns({"age", "job"});
    options.features[1].categories = {"baker"};
    options.timeout = 20;
  }
  ScorerOptions options;
};

TEST_F(Http, PostsRowsAndReadsScores) {
  Server server({good(R"({"scores": [[0.25, 0.75]], "outputs": ["no", "yes"]})"), good(R"({"scores": [[0, 1], [1, 0]]})")});
  const auto model = open_table_model(server.url(), options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->kind, "HTTP");
  EXPECT_THAT(model->outputs, ElementsAre("no", "yes"));
  const std::vector<double> rows{39, 0, std::nan(""), std::nan("")};
  expect_near(model->score(rows), {0, 1, 1, 0}, 0);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_THAT(requests[1], HasSubstr("POST /score HTTP/1.1\r\n"));
  EXPECT_THAT(requests[1], HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(requests[1], ::testing::EndsWith("\r\n\r\n{\"columns\": [\"age\", \"job\"], \"rows\": [[39, \"baker\"], [null, null]]}\n"));
}

TEST_F(Http, TriesAgainWhatMayPass) {
  Server server({answer("500 Oops", ""), "", answer("429 Slow down", "", "Retry-After: 1\r\n"), good(R"({"scores": [1]})")});
  options.retries = 3;
  const auto start = std::chrono::steady_clock::now();
  const auto model = open_table_model(server.url(), options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(server.requests().size(), 4u);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(900));  // as it was asked to
}

TEST_F(Http, GivesUpWithTheServersSentence) {
  options.retries = 1;
  {
    Server server({answer("503 Busy", "the model is loading")});
    EXPECT_THAT(message_of(open_table_model(server.url("user:secret@"), options)), HasSubstr("status 503: the model is loading, 2 times for the same batch"));
    EXPECT_EQ(server.requests().size(), 2u);
    EXPECT_THAT(message_of(open_table_model(server.url("user:secret@"), options)), ::testing::Not(HasSubstr("secret")));
  }
  for (const auto& [body, expected] : std::vector<std::pair<std::string, std::string>>{{R"({"detail": "no such model"})", "status 404: no such model"},
                                                                                       {R"({"error": {"message": "no access"}})", "status 404: no access"},
                                                                                       {std::string(100'000, 'x'), "x ..."},
                                                                                       {"\xff\x01", "status 404"}}) {
    Server server({answer("404 Not Found", body)});
    const auto message = message_of(open_table_model(server.url(), options));
    EXPECT_THAT(message, HasSubstr(expected));
    EXPECT_THAT(message, HasSubstr(server.url()));
    EXPECT_LT(message.size(), 500u);
    EXPECT_EQ(server.requests().size(), 1u);  // a refusal is final
  }
}

TEST_F(Http, WrongAnswersGetOneSentence) {
  for (const auto& [reply, expected] :
       std::vector<std::pair<std::string, std::string>>{{good("<html>"), "no JSON: <html>"},
                                                        {good(""), "(empty)"},
                                                        {good(R"({"scores": [NaN]})"), "holds NaN"},
                                                        {good(R"({"scores": [1, 2]})"), "2 rows of 1"},
                                                        {good(std::string(2 << 20, ' ')), "longer than 1.0 MiB"},
                                                        {answer("302 Found", "", "Location: http://127.0.0.1:1/x\r\n"), "it points to http://127.0.0.1:1/x"},
                                                        {"no HTTP at all\r\n\r\n", "cannot be reached"}}) {
    Server server({reply});
    options.retries = 0;
    EXPECT_THAT(message_of(open_table_model(server.url(), options)), HasSubstr(expected));
  }
}

TEST_F(Http, HangsUntilTheTimeoutOrTheStop) {
  Server server({"hang"});
  options.retries = 0;
  options.timeout = 0.3;
  auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(message_of(open_table_model(server.url(), options)), HasSubstr("no answer within 0.3 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  options.timeout = 60;
  start = std::chrono::steady_clock::now();
  options.stop_requested = [&] { return std::chrono::steady_clock::now() - start > std::chrono::milliseconds(200); };
  EXPECT_THAT(message_of(open_table_model(server.url(), options)), HasSubstr("interrupted"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(Http, NobodyListens) {
  std::string url;
  {
    const Server server({""});
    url = server.url();
  }
  EXPECT_THAT(message_of(open_table_model(url, options)), HasSubstr("cannot be reached"));
}

TEST(ShownUrl, HasNoPassword) {
  EXPECT_EQ(shown_url("http://a:b@host/x@y"), "http://host/x@y");
  EXPECT_EQ(shown_url("https://host?q=a@b"), "https://host?q=a@b");
  EXPECT_EQ(shown_url("http://"), "http://");
}

}  // namespace
}  // namespace deepseek::explain
