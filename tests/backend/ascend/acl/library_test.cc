#include "backend/ascend/acl/library.h"

#include <cstdlib>
#include <fstream>

#include "backend/ascend/acl/fixture.h"
#include "base/temporary_folder.h"

namespace ridge::backend::ascend {
namespace {

using acl::Library;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An environment variable for the time of a test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class AclLibrary : public AclTest {};

TEST_F(AclLibrary, IsLookedForWhereTheSettingSaysAndNowhereElse) {
  const Variable home("ASCEND_HOME_PATH", "/opt/cann");
  const Variable chosen("RIDGE_ASCEND_LIBRARY", "/opt/other.so");
  EXPECT_THAT(acl::library_candidates("/opt/mine.so"), ElementsAre("/opt/mine.so"));
  EXPECT_THAT(acl::library_candidates(""), ElementsAre("/opt/other.so"));
}

TEST_F(AclLibrary, IsLookedForBelowAscendHomePathFirst) {
  const Variable chosen("RIDGE_ASCEND_LIBRARY", "");
  const Variable home("ASCEND_HOME_PATH", "/opt/cann");
  EXPECT_THAT(acl::library_candidates(""),
              ElementsAre("/opt/cann/lib64/libascendcl.so", "libascendcl.so",
                          "/usr/local/Ascend/ascend-toolkit/latest/lib64/libascendcl.so"));
}

TEST_F(AclLibrary, IsLoadedFromAscendHomePath) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "lib64");
  std::filesystem::create_symlink(RIDGE_TWIN_LIBRARY, folder.path() / "lib64/libascendcl.so");
  const Variable chosen("RIDGE_ASCEND_LIBRARY", "");
  const Variable home("ASCEND_HOME_PATH", folder.path().string());
  const auto library = Library::open();
  EXPECT_EQ(library->path(), (folder.path() / "lib64/libascendcl.so").string());
  EXPECT_EQ(library->version().to_string(), "1.13.0");
  EXPECT_NE(library->functions().aclrtMalloc, nullptr);
}

TEST_F(AclLibrary, RunsThroughTheLoader) {
  const Variable memory("RIDGE_ASCEND_TWIN_MEMORY_BYTES", "1048576");
  const Variable soc("RIDGE_ASCEND_TWIN_SOC", "910B4");
  const auto runtime = acl::Runtime::open(RIDGE_TWIN_LIBRARY);
  const auto device = std::make_shared<acl::Device>(runtime, 0);
  const auto context = std::make_shared<acl::Context>(device);
  EXPECT_EQ(device->soc(), "Ascend910B4");
  EXPECT_EQ(context->memory().total_bytes, 1048576u);
  const acl::DeviceMemory there(context, 5);
  acl::upload(*context, there.span(), bytes_of("hello"));
  std::vector<std::byte> back(5);
  acl::download(*context, back, there.span());
  EXPECT_EQ(back, bytes_of("hello"));
}

TEST_F(AclLibrary, ThatIsNowhereIsToldWithAllPlacesAndAdvice) {
  const Variable chosen("RIDGE_ASCEND_LIBRARY", "");
  const Variable home("ASCEND_HOME_PATH", "/nowhere/cann");
  const Error error = error_of([] { Library::open(); });
  EXPECT_EQ(error.code(), ErrorCode::not_found);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("/nowhere/cann/lib64/libascendcl.so: cannot open"),
                    HasSubstr("/usr/local/Ascend/"), HasSubstr("install CANN 8.1"),
                    HasSubstr("set_env.sh"), HasSubstr("RIDGE_ASCEND_LIBRARY")));
}

TEST_F(AclLibrary, ThatIsNoLibraryIsTold) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "libascendcl.so").string();
  std::ofstream(path) << "a text that is longer than the header of a library would have to be";
  const Error error = error_of([&] { Library::open(path); });
  EXPECT_EQ(error.code(), ErrorCode::not_found);
  EXPECT_THAT(std::string(error.message()), AllOf(HasSubstr(path), HasSubstr("ELF header")));
}

TEST_F(AclLibrary, ThatLacksFunctionsIsToldWithItsVersion) {
  const Error error = error_of([] { Library::open(RIDGE_PARTIAL_LIBRARY); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("which is ACL 1.7.2, lacks aclGetRecentErrMsg"),
                    HasSubstr("more functions"), HasSubstr("needs ACL 1.13")));
}

TEST_F(AclLibrary, ThatLacksOneFunctionIsToldWhich) {
  const Error error = error_of([] { twin_library_without({"aclrtLaunchKernelWithConfig"}); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(std::string(error.message()),
              HasSubstr("the twin, which is ACL 1.13.0, lacks aclrtLaunchKernelWithConfig; ridge"));
}

TEST_F(AclLibrary, OfAnOldVersionIsRefused) {
  set("version", "1.12.9");
  const Error error = error_of([] { twin_library(); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.message(),
            "the twin is ACL 1.12.9; ridge needs ACL 1.13 or a newer 1.x, as in CANN 8.1");
}

TEST_F(AclLibrary, OfAnotherMajorVersionIsRefused) {
  set("version", "2.0.0");
  EXPECT_EQ(error_of([] { twin_library(); }).code(), ErrorCode::unsupported);
  set("version", "1.20.3");
  EXPECT_EQ(twin_library()->version().minor, 20);
}

TEST_F(AclLibrary, ThatFailsToTellItsVersionIsTold) {
  set("fail", "aclrtGetVersion:1=500000");
  EXPECT_THAT(std::string(error_of([] { twin_library(); }).message()),
              HasSubstr("aclrtGetVersion of the twin: ACL error 500000 (internal error): "
                        "aclrtGetVersion: fault injected"));
}

TEST_F(AclLibrary, StatusesBecomeErrorsOfOurs) {
  const std::map<abi::Status, ErrorCode> codes = {
      {207001, ErrorCode::out_of_memory},    {207018, ErrorCode::out_of_memory},
      {200000, ErrorCode::out_of_memory},    {507046, ErrorCode::timed_out},
      {107020, ErrorCode::timed_out},        {207000, ErrorCode::unsupported},
      {107001, ErrorCode::not_found},        {207006, ErrorCode::permission_denied},
      {100003, ErrorCode::invalid_file},     {107009, ErrorCode::invalid_file},
      {207004, ErrorCode::unavailable},      {507010, ErrorCode::unavailable},
      {507015, ErrorCode::internal},         {123456, ErrorCode::internal}};
  for (const auto& [status, code] : codes) EXPECT_EQ(acl::error_code(status), code) << status;
  EXPECT_EQ(acl::meaning(123456), "see CANN's list of error codes");
}

TEST_F(AclLibrary, MessagesOfManyLinesBecomeOneOfBoundedLength) {
  static std::string told;
  const auto library = Library::linked("a library", [](const char* name) -> void* {
    if (std::string_view(name) != "aclGetRecentErrMsg") return twin_acl::find_entry_point(name);
    return reinterpret_cast<void*>(+[]() -> const char* { return told.c_str(); });
  });
  told = "\nEE9999: Inner Error!\n\t TraceBack:\n  one\n\n";
  EXPECT_EQ(library->error_of(500000, "aclrtMalloc", "of it").message(),
            "aclrtMalloc of it: ACL error 500000 (internal error): EE9999: Inner Error! TraceBack: "
            "one");
  told = std::string(100000, 'x');
  EXPECT_LT(library->error_of(500000, "aclrtMalloc", "of it").message().size(), 1100u);
  told = "";
  EXPECT_EQ(library->error_of(500000, "aclrtMalloc", "of it").message(),
            "aclrtMalloc of it: ACL error 500000 (internal error)");
}

}  // namespace
}  // namespace ridge::backend::ascend
