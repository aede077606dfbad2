#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "platform/backup/manifest.h"
#include "platform/backup/work_folder.h"

// The files of clients in an archive (platform/batch/files.h): "files/store.id", which is the id of
// their folder, "files/kept/ID", and of batches that have not ended "files/results/NAME".
namespace ridge::platform::backup {

bool is_client_file(std::string_view member);

// Results of batches by their names, held open: a batch that ends removes its own.
using HeldResults = std::map<std::string, FileDescriptor>;
// To be called before the database is copied.
HeldResults hold_results(const std::filesystem::path& folder);

// Copies of what is in the folder, in `work`; none where it is missing. Taken after the database,
// so that what that knows of is there, unless a client deleted it in between.
std::vector<std::pair<BackupFile, std::filesystem::path>> copy_client_files(
    const std::filesystem::path& folder, HeldResults held, const WorkFolder& work);

// Where a member goes in a folder of files, whose folders are made where missing.
std::filesystem::path place_of_client_file(std::string_view member,
                                           const std::filesystem::path& folder);

}  // namespace ridge::platform::backup
