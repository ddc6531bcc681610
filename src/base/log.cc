#include "base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <mutex>

namespace deepseek::base {
namespace {

std::string status_line;  // guarded by the sink's mutex

class Sink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void set_status(const std::string& line) {
    const std::lock_guard lock(mutex_);
    clear();
    status_line = line;
    std::fputs(status_line.c_str(), stderr);
    std::fflush(stderr);
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    clear();
    const char* mark = message.level >= spdlog::level::err ? "error: " : message.level == spdlog::level::warn ? "warning: " : "";
    std::fputs(mark, stderr);
    std::fwrite(message.payload.data(), 1, message.payload.size(), stderr);
    if (message.payload.size() == 0 || message.payload[message.payload.size() - 1] != '\n') std::fputc('\n', stderr);
    std::fputs(status_line.c_str(), stderr);
    std::fflush(stderr);
  }
  void flush_() override { std::fflush(stderr); }

 private:
  static void clear() {
    if (!status_line.empty()) std::fputs("\r\x1b[K", stderr);
  }
};

std::shared_ptr<Sink> sink() {
  static const auto kSink = std::make_shared<Sink>();
  return kSink;
}

spdlog::logger& logger() {
  static spdlog::logger kLogger("deepseek", sink());
  return kLogger;
}

}  // namespace

void log_info(const std::string& line) { logger().log(spdlog::level::info, spdlog::string_view_t(line)); }
void log_warn(const std::string& line) { logger().log(spdlog::level::warn, spdlog::string_view_t(line)); }
void log_error(const std::string& line) { logger().log(spdlog::level::err, spdlog::string_view_t(line)); }
void set_status_line(const std::string& line) { sink()->set_status(line); }

}  // namespace deepseek::base
