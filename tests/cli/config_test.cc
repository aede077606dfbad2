#include "cli/config.h"

#include <algorithm>
#include <cstdlib>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "base/temporary_folder.h"
#include "platform/throws.h"

namespace ridge::cli::config_test {
namespace {

// A command like `serve`: settings, a list of models, a file.
class ConfigTest : public testing::Test {
 protected:
  ~ConfigTest() override {
    for (const char* name : {"RIDGE_HOST", "RIDGE_MAX_TOKENS", "RIDGE_CORS"}) unsetenv(name);
  }

  void run(std::vector<std::string> words, const std::string& toml) {
    CLI::App app("", "ridge");
    CLI::App* serve = app.add_subcommand("serve");
    add_setting(*serve, "host", host_, "");
    add_setting(*serve, "max-tokens", max_tokens_, "")->check(CLI::Range(1, 1000));
    add_setting(*serve, "cors", cors_, "");
    serve->add_option("MODEL", models_);
    std::string config;
    serve->add_option("--config", config);
    const auto file = temporary_.write("ridge.toml", toml);
    serve->callback([&] { apply_config_file(*serve, file); });
    words.insert(words.begin(), "serve");
    std::reverse(words.begin(), words.end());
    app.parse(words);
  }

  TemporaryFolder temporary_;
  std::string host_ = "default";
  int max_tokens_ = 7;
  bool cors_ = false;
  std::vector<std::string> models_;
};

TEST_F(ConfigTest, TheDefaultStandsWhereNothingSpeaks) {
  run({}, "");
  EXPECT_EQ(host_, "default");
  EXPECT_EQ(max_tokens_, 7);
  EXPECT_FALSE(cors_);
}

TEST_F(ConfigTest, TheFileGoesBeforeTheDefault) {
  run({}, "host = 'file'\nmax_tokens = 8\ncors = true\nmodels = ['a', 'b']\n");
  EXPECT_EQ(host_, "file");
  EXPECT_EQ(max_tokens_, 8);
  EXPECT_TRUE(cors_);
  EXPECT_EQ(models_, (std::vector<std::string>{"a", "b"}));
}

TEST_F(ConfigTest, TheEnvironmentGoesBeforeTheFile) {
  setenv("RIDGE_HOST", "environment", 1);
  setenv("RIDGE_MAX_TOKENS", "9", 1);
  run({}, "host = 'file'\nmax_tokens = 8\n");
  EXPECT_EQ(host_, "environment");
  EXPECT_EQ(max_tokens_, 9);
}

TEST_F(ConfigTest, AFlagGoesBeforeTheEnvironment) {
  setenv("RIDGE_HOST", "environment", 1);
  setenv("RIDGE_CORS", "true", 1);
  run({"--host", "flag", "--max-tokens=10", "m"},
      "host = 'file'\nmax_tokens = 8\nmodels = ['a']\ncors = false\n");
  EXPECT_EQ(host_, "flag");
  EXPECT_EQ(max_tokens_, 10);
  EXPECT_TRUE(cors_);
  EXPECT_EQ(models_, std::vector<std::string>{"m"});
}

TEST_F(ConfigTest, AnUnknownKeyNamesFileLineAndKey) {
  EXPECT_ERROR(run({}, "host = 'a'\nhots = 'b'\n"), invalid_argument,
               "ridge.toml:2: 'hots' is no setting of 'ridge serve'");
  EXPECT_ERROR(run({}, "config = 'b'\n"), invalid_argument, "'config' is no setting");
  EXPECT_ERROR(run({}, "[limits]\nhost = 'b'\n"), invalid_argument, "'limits'");
}

TEST_F(ConfigTest, AWrongValueNamesFileLineAndKey) {
  EXPECT_ERROR(run({}, "max_tokens = 'many'\n"), invalid_argument, "ridge.toml:1: 'max_tokens'");
  EXPECT_ERROR(run({}, "\nmax_tokens = 1001\n"), invalid_argument, "ridge.toml:2: 'max_tokens'");
  EXPECT_ERROR(run({}, "max_tokens = {a = 1}\n"), invalid_argument, "must be a string");
  EXPECT_ERROR(run({}, "host = ['a', 'b']\n"), invalid_argument, "'host'");
  EXPECT_ERROR(run({}, "host = \n"), invalid_argument, "ridge.toml:1: not TOML");
}

TEST_F(ConfigTest, AMissingFileIsAnError) {
  CLI::App app;
  EXPECT_ERROR(apply_config_file(app, "/nowhere/ridge.toml"), not_found, "/nowhere/ridge.toml");
}

TEST(EnvironmentName, IsTheFlagInCapitals) {
  EXPECT_EQ(environment_name("max-tokens"), "RIDGE_MAX_TOKENS");
}

}  // namespace
}  // namespace ridge::cli::config_test
