// What the twin's ACL runtime exports, declared by the same table that ridge calls through: an entry
// point of another type does not compile.
#pragma once

#include "backend/ascend/acl/abi.h"

namespace ridge::backend::ascend::abi {

extern "C" {
#define RIDGE_ACL_DECLARE(result, name, parameters) result name parameters;
RIDGE_ACL_FUNCTIONS(RIDGE_ACL_DECLARE)
RIDGE_ACL_OPTIONAL_FUNCTIONS(RIDGE_ACL_DECLARE)
#undef RIDGE_ACL_DECLARE
}

}  // namespace ridge::backend::ascend::abi
