#include "base/precompiled.h"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;
#define RIDGE_NOT_EXTERN
RIDGE_INSTANTIATE_JSON(RIDGE_NOT_EXTERN, nlohmann::json)
RIDGE_INSTANTIATE_JSON(RIDGE_NOT_EXTERN, nlohmann::ordered_json)
