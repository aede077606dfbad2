// What most of src/ includes, compiled once for all of it (cmake/Compile.cmake). Each file includes what it uses
// all the same.
#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Code that every file would otherwise compile for itself: instantiated in base/precompiled.cc and in libfmt.
#define RIDGE_INSTANTIATE_JSON(KEYWORD, JSON)                                                                     \
  KEYWORD template class nlohmann::detail::serializer<JSON>;                                                      \
  RIDGE_INSTANTIATE_JSON_PARSER(KEYWORD, JSON, const char*)                                                       \
  RIDGE_INSTANTIATE_JSON_PARSER(KEYWORD, JSON, std::string::const_iterator)                                       \
  KEYWORD template class std::vector<JSON>;
#define RIDGE_INSTANTIATE_JSON_PARSER(KEYWORD, JSON, ITERATOR)                                                    \
  KEYWORD template class nlohmann::detail::lexer<JSON, nlohmann::detail::iterator_input_adapter<ITERATOR>>;       \
  KEYWORD template class nlohmann::detail::parser<JSON, nlohmann::detail::iterator_input_adapter<ITERATOR>>;

extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;
RIDGE_INSTANTIATE_JSON(extern, nlohmann::json)
RIDGE_INSTANTIATE_JSON(extern, nlohmann::ordered_json)
extern template void fmt::detail::vformat_to<char>(
    fmt::detail::buffer<char>&, fmt::string_view, fmt::basic_format_args<fmt::format_context>, fmt::detail::locale_ref);
