// A team does each piece once, in any size, and waits for everyone.
#include "hardware/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <vector>

namespace deepseek::hardware {
namespace {

TEST(Team, EveryPieceIsDoneOnceAndBarriersHold) {
  for (const int size : {1, 2, 3, 7}) {
    Team team(size);
    EXPECT_EQ(team.size(), size);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> first(1000), second(1000);
      team.run([&](int) {
        team.share(1000, 7, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++first[static_cast<size_t>(i)];
        });
        // What the others wrote before the barrier is seen after it.
        team.share(1000, 64, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) second[static_cast<size_t>(i)] = first[static_cast<size_t>(999 - i)];
        });
      });
      ASSERT_EQ(std::accumulate(second.begin(), second.end(), 0), 1000) << size << " threads, round " << round;
    }
  }
}

TEST(Team, EveryThreadRunsTheBody) {
  Team team(5);
  std::vector<std::atomic<int>> runs(5);
  for (int i = 0; i < 50; ++i) team.run([&](int thread) { ++runs[static_cast<size_t>(thread)]; });
  for (const auto& count : runs) EXPECT_EQ(count, 50);
}

TEST(Team, AThousandThreadsOrAsManyAsThereAre) {
  Team team(1000);
  std::atomic<int> ran{0};
  team.run([&](int) { ++ran; });
  EXPECT_EQ(ran, team.size());
}

}  // namespace
}  // namespace deepseek::hardware
