#pragma once

#include <filesystem>
#include <functional>

#include "platform/backup/manifest.h"

namespace ridge::platform::backup {

// Where a file of an archive is to go; empty: nowhere, it is only checked.
using TakeFile = std::function<std::filesystem::path(const BackupFile&)>;

// Unpacks an archive to new files, for their owner alone, and checks each file's digest. No name in
// the archive is used as one on the disk. Throws as check_backup() and DiskError.
BackupManifest unpack(const std::filesystem::path& file, const TakeFile& target_of);

// Throws invalid_file where SQLite finds the file damaged.
void check_sqlite(const std::filesystem::path& file);

}  // namespace ridge::platform::backup
