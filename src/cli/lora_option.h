#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ridge::cli {

// An adapter as a person names it.
struct LoraChoice {
  std::string name;  // by which requests ask for it; empty where a command has but one
  std::string path;  // of a GGUF adapter or of a PEFT folder
  float scale = 1;
  std::string base;  // the model that it changes; empty: the only one
};

// "PATH[,scale=S]". Throws invalid_argument, saying what is wrong.
LoraChoice parse_lora(std::string_view text);
// "NAME=PATH[,scale=S][,base=MODEL]".
LoraChoice parse_named_lora(std::string_view text);

// Gives each adapter the model that it changes, and checks that all names differ. `models` are the
// names of all models, at least one. Throws invalid_argument.
void settle_bases(std::vector<LoraChoice>& adapters, const std::vector<std::string>& models);

}  // namespace ridge::cli
