#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

// Expects `statement` to throw ridge::Error with this code and a message that holds `text`.
#define EXPECT_ERROR(statement, expected_code, text)                            \
  try {                                                                         \
    statement;                                                                  \
    ADD_FAILURE() << #statement " did not throw";                               \
  } catch (const ::ridge::Error& error) {                                       \
    EXPECT_EQ(error.code(), ::ridge::ErrorCode::expected_code) << error.what(); \
    EXPECT_THAT(std::string(error.what()), ::testing::HasSubstr(text));         \
  }
