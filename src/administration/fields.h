#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "administration/administration.h"
#include "api/fields.h"
#include "base/error.h"

namespace ridge::administration {

inline constexpr std::size_t most_shown_bytes = 100;  // of a wrong value, in messages

// Members of a body beyond api::Fields. All throw invalid_argument, whose param is the member.

// Nullopt where absent.
std::optional<std::string> name_field(const api::Fields& fields, std::string_view member);
std::string required_name(const api::Fields& fields, std::string_view member);
// Nullptr where absent; else strings alone.
std::optional<std::vector<std::string>> strings_field(const api::Fields& fields,
                                                      std::string_view member, std::size_t most);
std::optional<platform::Role> role_field(const api::Fields& fields, std::string_view member);
std::optional<platform::ProjectRole> project_role_field(const api::Fields& fields,
                                                        std::string_view member);

// The day that a parameter of the address names, as its beginning in UTC, and the end of it;
// nullopt where it is not there. Throw invalid_argument that names the parameter.
std::optional<int64_t> first_day(std::string_view query, const std::string& name);
std::optional<int64_t> end_of_day(std::string_view query, const std::string& name);

// The project that a parameter of the address names; "" is all, for admins. Others have the one
// that they act for. Throws not_found for another.
std::string asked_project(const Call& call);

// "'MEMBER' is TEXT; it must be one of NAMES".
[[noreturn]] void refuse_choice(const std::string& member, std::string_view text,
                                std::string_view names);

// The one of these that {id} means, by name or else by id. Throws not_found.
template <typename Item>
Item named_or_id(const std::vector<Item>& items, const std::string& wanted, std::string_view what) {
  auto found = std::ranges::find(items, wanted, &Item::name);
  if (found == items.end()) found = std::ranges::find(items, wanted, &Item::id);
  if (found != items.end()) return *found;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no {} '{}'", what, wanted.substr(0, most_shown_bytes)));
}

Answer json_answer(const Json& document, int status = 200);
// {"data": […]}
Answer list_answer(Json items);

}  // namespace ridge::administration
