#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/text.h"

namespace deepseek::base {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPlainLine = std::chrono::seconds(10);

size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(std::string title, uint64_t total, std::string unit)
    : title_(std::move(title)), unit_(std::move(unit)), total_(total), terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { finish(); }

void Progress::update(uint64_t done, const std::string& suffix) {
  if (finished_) return;
  if (!started_) {
    started_ = true;
    first_ = done;  // a resumed run begins in the middle
    begin_ = Clock::now();
  }
  done_ = done;
  suffix_ = suffix;
  const auto now = Clock::now();
  if (now - shown_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kPlainLine))) return;
  shown_ = now;
  shown_done_ = done;
  const std::string text = line(done, suffix, terminal_ ? terminal_width() - 1 : 200);
  terminal_ ? set_status_line(text) : log_info(text);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (!started_) return;
  if (terminal_) {
    set_status_line("");
  } else if (shown_done_ != done_) {
    log_info(line(done_, suffix_, 200));
  }
}

std::string Progress::line(uint64_t done, const std::string& suffix, size_t width) const {
  const auto amount = [&](uint64_t value) { return unit_ == "B" ? human_bytes(value) : with_commas(value); };
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  const double rate = seconds > 0.2 && done > first_ ? static_cast<double>(done - first_) / seconds : 0;
  std::string text = total_ > 0 ? fmt::format("{}  {}/{}", title_, amount(done), amount(total_)) : fmt::format("{}  {}", title_, amount(done));
  if (total_ > 0) {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    constexpr size_t kCells = 16;
    const auto full = static_cast<size_t>(share * kCells);
    text += fmt::format(" [{}{}] {:3.0f}%", std::string(full, '='), std::string(kCells - full, ' '), 100 * share);
  }
  if (!suffix.empty()) text += "  " + suffix;
  if (unit_ == "B" && rate > 0) text += "  " + human_bytes(static_cast<uint64_t>(rate)) + "/s";
  if (total_ > done && rate > 0) text += "  " + human_duration(static_cast<double>(total_ - done) / rate) + " left";
  if (text.size() > width) text.resize(width);
  return text;
}

}  // namespace deepseek::base
