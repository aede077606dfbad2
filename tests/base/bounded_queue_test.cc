#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace ridge {

TEST(BoundedQueue, RefusesWhenFull) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.try_push(1));
  EXPECT_TRUE(queue.try_push(2));
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.try_pop(), 1);
  EXPECT_TRUE(queue.try_push(3));
}

TEST(BoundedQueue, CloseWakesAWaiterAfterTheLastItem) {
  BoundedQueue<int> queue(2);
  queue.try_push(7);
  std::vector<int> got;
  std::thread reader([&] {
    while (auto item = queue.pop()) got.push_back(*item);
  });
  queue.close();
  reader.join();
  EXPECT_EQ(got, std::vector<int>{7});
  EXPECT_FALSE(queue.try_push(8));
}

}  // namespace ridge
