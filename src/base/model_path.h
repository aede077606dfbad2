#pragma once

#include <filesystem>
#include <string>

namespace ridge {

// Whether `path` is a folder with a config.json, as Hugging Face's libraries save models.
bool is_model_folder(const std::filesystem::path& path);

// "DeepSeek-R1-Distill-Qwen-1.5B" of a folder of that name, however its path ends.
std::string folder_name(const std::filesystem::path& folder);

}  // namespace ridge
