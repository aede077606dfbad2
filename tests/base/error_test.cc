#include "base/error.h"

#include <gtest/gtest.h>

namespace ridge {

TEST(Error, CarriesCodeMessageAndParam) {
  const Error error(ErrorCode::invalid_argument, "top_p is 2; it must be in (0, 1]", "top_p");
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error.message(), "top_p is 2; it must be in (0, 1]");
  EXPECT_EQ(error.param(), "top_p");
}

TEST(Error, CallersFaultsAre4xxAndOurs5xx) {
  EXPECT_EQ(http_status(ErrorCode::invalid_argument), 400);
  EXPECT_EQ(http_status(ErrorCode::not_found), 404);
  EXPECT_EQ(http_status(ErrorCode::already_exists), 409);
  EXPECT_EQ(http_status(ErrorCode::queue_full), 429);
  EXPECT_EQ(http_status(ErrorCode::internal), 500);
  EXPECT_EQ(http_status(ErrorCode::unavailable), 503);
}

}  // namespace ridge
