#include <cstdint>

extern "C" int32_t aclInit(const char*) { return 0; }
extern "C" int32_t aclFinalize() { return 0; }
extern "C" int32_t aclrtGetVersion(int32_t* major, int32_t* minor, int32_t* patch) {
  *major = 1;
  *minor = 7;
  *patch = 2;
  return 0;
}
