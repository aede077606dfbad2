#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ridge::platform {

enum class ReferenceKind { catalog, hugging_face, path };

// What a person writes where a model is wanted:
//   path           anything that is a file, ends in ".gguf", starts with '.' and a '/', "~/" or '/'
//   hugging_face   hf:organisation/repository[:quantisation]
//   catalog        family[:tag[-quantisation]], such as deepseek-r1, deepseek-r1:7b or
//                  deepseek-r1:7b-q8_0; case does not count
struct ModelReference {
  ReferenceKind kind;
  std::string name;          // catalog: in lower case, at most 128 bytes
  std::string repository;    // hugging_face: "organisation/repository"
  std::string quantization;  // hugging_face: canonical, empty where none was named
  std::filesystem::path path;

  // Throws invalid_argument where the text is none of the three.
  static ModelReference parse(std::string_view text);

  // As it can be written again.
  std::string to_string() const;
};

// "organisation/repository": two words of A-Z a-z 0-9 . _ -, each starting with a letter or digit,
// without "..", at most 96 bytes each.
bool is_repository_name(std::string_view text);

}  // namespace ridge::platform
