#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "administration/fields.h"
#include "api/url_query.h"

namespace ridge::administration {

// A long list is asked for in pages: `limit` items behind the one that `after` names.
struct Page {
  static constexpr int most = 1'000;

  int limit = most;
  std::string after;  // empty: from the first one on
};

// Throws invalid_argument that names the parameter.
Page page_of(std::string_view query);

// {"data": […], "has_more": …} of up to one item more than the page has.
Answer page_answer(Json items, const Page& page);

// Of items with names, those of the page and one more.
template <typename Item>
Json by_name(const std::vector<Item>& items, const Page& page, auto json_of) {
  auto item = items.begin();
  if (!page.after.empty()) {
    item = std::ranges::find(items, page.after, &Item::name);
    if (item == items.end())
      api::refuse("after", "'after' must be the name of an item of the list");
    ++item;
  }
  Json data = Json::array();
  for (; item != items.end() && data.size() <= static_cast<std::size_t>(page.limit); ++item) {
    data.push_back(json_of(*item));
  }
  return data;
}

}  // namespace ridge::administration
