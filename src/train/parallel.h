// Data parallel training over the processes that mpirun started; alone, everything here does nothing.
#pragma once

#include <span>
#include <string>

namespace deepseek::train {

class Parallel {
 public:
  /// Alone.
  Parallel() = default;
  /// The processes of this mpirun, or alone when there is none or MPI was left out of the build. Lasts as long as the program.
  [[nodiscard]] static Parallel join();

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool first() const { return rank_ == 0; }
  /// In place, the same on every process to the last bit.
  void sum(std::span<float> values) const;
  void sum(double& value) const;
  /// True on all where it is true on one.
  [[nodiscard]] bool any(bool value) const;
  void wait_for_all() const;
  /// Ends all processes: one of them cannot go on.
  void abort(int code) const;

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace deepseek::train
