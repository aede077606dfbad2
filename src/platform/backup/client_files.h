#pragma once

#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "platform/backup/manifest.h"
#include "platform/backup/work_folder.h"

// The files of clients in an archive (platform/batch/files.h): "files/store.id", which is the id of
// their folder, "files/kept/ID", and of batches that have not ended "files/results/NAME".
namespace ridge::platform::backup {

bool is_client_file(std::string_view member);

// Copies of what is in the folder, in `work`; none where it is missing. Taken after the database,
// so that what that knows of is there, unless it was deleted in between.
std::vector<std::pair<BackupFile, std::filesystem::path>> copy_client_files(
    const std::filesystem::path& folder, const WorkFolder& work);

// Where a member goes in a folder of files, whose folders are made where missing.
std::filesystem::path place_of_client_file(std::string_view member,
                                           const std::filesystem::path& folder);

}  // namespace ridge::platform::backup
