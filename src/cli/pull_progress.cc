#include "cli/pull_progress.h"

#include <string>

#include "cli/interrupt.h"
#include "cli/progress.h"

namespace ridge::cli {

platform::PullResult pull_with_progress(Context& context, const platform::ModelReference& reference,
                                        int attempts) {
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  platform::DownloadOptions options;
  options.retry.attempts = attempts;
  options.is_cancelled = [] { return InterruptScope::requested(); };
  options.on_progress = [&](const platform::DownloadProgress& now) {
    progress.update(std::string(now.file_name), now.done_bytes, now.total_bytes);
  };
  options.on_note = [&](std::string_view line) {
    progress.clear();
    context.note(printable(line));
  };
  return platform::pull(context.store(), context.catalog(), reference, options);
}

}  // namespace ridge::cli
