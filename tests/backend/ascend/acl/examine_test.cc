#include "backend/ascend/acl/examine.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "backend/ascend/acl/fixture.h"
#include "base/temporary_folder.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// An environment in which the twin stands for CANN or nothing does, and a folder for /dev.
class AclExamine : public ::testing::Test {
 protected:
  AclExamine() {
    for (const char* name : variables) ::unsetenv(name);
    std::filesystem::create_directory(folder_ / "dev");
  }
  ~AclExamine() override {
    for (const char* name : variables) ::unsetenv(name);
  }

  void add_node(const std::string& name) { folder_.write("dev/" + name, ""); }
  void add_shared_nodes() {
    for (const char* name : {"davinci_manager", "devmm_svm", "hisi_hdc"}) add_node(name);
  }
  std::string node(const std::string& name) const { return (folder_ / "dev" / name).string(); }
  static void set(const char* name, const char* value) { ::setenv(name, value, 1); }

  DeviceFinding examine(const std::string& library) const {
    DeviceFinding finding = acl::examine({.device_folder = (folder_ / "dev").string(),
                                          .driver_version_file = (folder_ / "version.info").string(),
                                          .library = library});
    EXPECT_EQ(finding.subject, "Ascend");
    EXPECT_EQ(finding.advice.empty(), finding.state != DeviceState::lacking);
    return finding;
  }

  static constexpr const char* variables[] = {
      "RIDGE_ASCEND_LIBRARY",       "ASCEND_HOME_PATH",
      "RIDGE_ASCEND_TWIN_SOC",      "RIDGE_ASCEND_TWIN_DEVICES",
      "RIDGE_ASCEND_TWIN_VERSION",  "RIDGE_ASCEND_TWIN_FAIL"};
  TemporaryFolder folder_;
};

TEST_F(AclExamine, FindsNothingWhereNothingIs) {
  const DeviceFinding finding = examine("");
  EXPECT_EQ(finding.state, DeviceState::absent);
  EXPECT_EQ(finding.found, fmt::format("no device here: no {}/davinci*, no CANN",
                                       (folder_ / "dev").string()));
}

TEST_F(AclExamine, FindsDevicesWithChipMemoryAndVersions) {
  set("RIDGE_ASCEND_TWIN_DEVICES", "2");
  set("RIDGE_ASCEND_TWIN_SOC", "910B4");
  folder_.write("version.info", "package=driver\nVersion=24.1.rc3\n");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(finding.state, DeviceState::ready);
  EXPECT_EQ(finding.found,
            "0 Ascend910B4, 32.0 of 32.0 GiB free; 1 Ascend910B4, 32.0 of 32.0 GiB free (ACL "
            "1.13.0, driver 24.1.rc3)");
}

TEST_F(AclExamine, MissesCannWhereThereAreDevices) {
  add_node("davinci0");
  add_node("davinci10");
  add_node("davinci2");
  add_shared_nodes();
  const DeviceFinding finding = examine("");
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found,
              AllOf(HasSubstr(fmt::format("3 devices, {} to {}, are there, but no Ascend runtime",
                                          node("davinci0"), node("davinci10"))),
                    HasSubstr("libascendcl.so: cannot open")));
  EXPECT_THAT(finding.advice, HasSubstr("install CANN 8.1"));
}

TEST_F(AclExamine, MissesTheLibraryThatWasNamed) {
  const DeviceFinding finding = examine("/nowhere/libascendcl.so");
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_EQ(finding.found,
            "no Ascend runtime could be loaded (/nowhere/libascendcl.so: cannot open shared object "
            "file: No such file or directory)");
  EXPECT_EQ(finding.advice, acl::install_advice);
}

TEST_F(AclExamine, MissesTheDriversLibrary) {
  const DeviceFinding finding = examine(RIDGE_LIBRARY_WITHOUT_DRIVER);
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found, AllOf(HasSubstr(RIDGE_LIBRARY_WITHOUT_DRIVER),
                                   HasSubstr("libascend_hal.so: cannot open")));
  EXPECT_THAT(finding.advice, HasSubstr("install the driver"));
}

TEST_F(AclExamine, MissesANewerCann) {
  set("RIDGE_ASCEND_TWIN_VERSION", "1.12.0");
  add_node("davinci0");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found, AllOf(HasSubstr("davinci0 is there, but "), HasSubstr("is ACL 1.12.0")));
  EXPECT_THAT(finding.advice, HasSubstr("ASCEND_HOME_PATH"));
}

// A status that means not_found is not a library that is not there.
TEST_F(AclExamine, TellsWhatALibraryThatIsThereFindsMissing) {
  set("RIDGE_ASCEND_TWIN_FAIL", "aclrtGetVersion:1=107001");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found,
              ::testing::EndsWith("ACL error 107001 (no such device): aclrtGetVersion: fault injected "
                                  "by RIDGE_ASCEND_TWIN_FAIL=aclrtGetVersion:1"));
  EXPECT_THAT(finding.advice, HasSubstr("which one ASCEND_HOME_PATH names"));
}

TEST_F(AclExamine, MissesDevicesWhereThereIsCann) {
  set("RIDGE_ASCEND_TWIN_DEVICES", "0");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found, HasSubstr("ACL 1.13.0 is there, but no "));
  EXPECT_THAT(finding.advice, AllOf(HasSubstr("npu-smi info"), HasSubstr("--device /dev/davinci0")));
}

TEST_F(AclExamine, MissesNodesThatAllDevicesShare) {
  set("RIDGE_ASCEND_TWIN_DEVICES", "0");
  add_node("davinci0");
  add_node("davinci_manager");
  add_node("hisi_hdc");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_THAT(finding.found, HasSubstr(node("devmm_svm") + " is missing"));
  EXPECT_THAT(finding.advice, HasSubstr("--device /dev/devmm_svm"));
}

TEST_F(AclExamine, MissesPermission) {
  set("RIDGE_ASCEND_TWIN_DEVICES", "0");
  add_node("davinci0");
  add_shared_nodes();
  ::chmod(node("davinci0").c_str(), 0600);
  ::chmod(folder_.path().c_str(), 0755);
  const uid_t self = ::geteuid();
  if (self != 0) GTEST_SKIP() << "NOT TESTED: only root can become somebody who may not";
  // Somebody else may not be let into the folder that the library was built in.
  const auto loaded = acl::Library::open(RIDGE_TWIN_LIBRARY);
  constexpr uid_t nobody = 65534;
  ASSERT_EQ(::seteuid(nobody), 0);
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  ASSERT_EQ(::seteuid(self), 0);
  EXPECT_THAT(finding.found, HasSubstr(node("davinci0") + " cannot be opened: Permission denied"));
  EXPECT_THAT(finding.advice, HasSubstr("usermod -aG root USER"));
}

TEST_F(AclExamine, TellsWhereOthersMayHaveTheDevices) {
  set("RIDGE_ASCEND_TWIN_DEVICES", "0");
  add_node("davinci0");
  add_shared_nodes();
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_THAT(finding.found, HasSubstr("lets this process use none"));
  EXPECT_THAT(finding.advice, HasSubstr("ASCEND_RT_VISIBLE_DEVICES"));
}

TEST_F(AclExamine, TellsWhatFailed) {
  set("RIDGE_ASCEND_TWIN_FAIL", "aclrtSetDevice:1=507899");
  const DeviceFinding finding = examine(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(finding.state, DeviceState::lacking);
  EXPECT_THAT(finding.found,
              HasSubstr("aclrtSetDevice for device 0: ACL error 507899 (the driver failed)"));
}

}  // namespace
}  // namespace ridge::backend::ascend
