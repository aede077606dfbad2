#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "platform/identity/principal.h"
#include "server/generation.h"

namespace ridge::server {

// The generations that run, under the ids by which their clients know them. Any thread.
class RunningRequests {
 public:
  using SharedPrincipal = std::shared_ptr<const platform::Principal>;

  // Lists a generation for as long as it lives; the generation must outlive it. `principal` is
  // whose rights are to be looked after meanwhile; null: nobody's.
  class Listing {
   public:
    Listing(RunningRequests& requests, std::string_view id, std::string_view other_id,
            std::string group, std::string model, SharedPrincipal principal,
            Generation& generation);
    ~Listing();
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

   private:
    RunningRequests& requests_;
    Generation& generation_;
  };

  // Whether the asker may use a model.
  using MayUse = std::function<bool(const std::string& model)>;

  // Ends the thinking of what `group` runs under this id with models that the asker may use; false
  // where there is nothing. What else runs under the same id is not touched, nor told of.
  bool end_thinking(std::string_view id, std::string_view group, const MayUse& may_use);

  // Cancels likewise what runs under this id; its clients are told why. The name of the model that
  // answered, nullopt where there is nothing.
  std::optional<std::string> cancel(std::string_view id, std::string_view group,
                                    const MayUse& may_use, const Error& why);

  bool has_any() const;
  // Each once, of those whose rights were last read at an earlier revision of identity.
  std::vector<SharedPrincipal> principals_known_before(int64_t revision) const;
  // The rights of this one were read at this revision and are enough.
  void still_known(const platform::Principal& principal, int64_t revision);
  // Ends what runs for this one; its clients are told why.
  void cancel(const platform::Principal& principal, const Error& why);

 private:
  // Does it to each that `group` runs under this id with models that the asker may use; the model
  // of the last.
  template <typename Do>
  std::optional<std::string> for_each_of(std::string_view id, std::string_view group,
                                         const MayUse& may_use, Do act);

  struct Entry {
    std::string group, model;
    SharedPrincipal principal;
    int64_t revision = 0;  // of identity, at which the principal's rights were read
    Generation* generation;
  };

  mutable std::mutex mutex_;
  std::multimap<std::string, Entry, std::less<>> entries_;  // clients may choose the same ids
};

}  // namespace ridge::server
