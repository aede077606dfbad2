#include "administration/pages.h"

#include <nlohmann/json.hpp>

namespace ridge::administration {

Page page_of(std::string_view query) {
  Page page;
  page.limit =
      static_cast<int>(api::query_number(query, "limit", 1, Page::most).value_or(Page::most));
  page.after = api::query_value(query, "after").value_or("");
  return page;
}

Answer page_answer(Json items, const Page& page) {
  const bool has_more = items.size() > static_cast<std::size_t>(page.limit);
  if (has_more) items.get_ref<Json::array_t&>().pop_back();
  return json_answer({{"data", std::move(items)}, {"has_more", has_more}});
}

}  // namespace ridge::administration
