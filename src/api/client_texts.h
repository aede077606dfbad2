#pragma once

#include <string>
#include <vector>

#include "api/served_model.h"

namespace ridge::api {

struct ChatRequest;
struct CompletionRequest;
struct EmbeddingRequest;
struct RankingRequest;

// All that a client has written which a model reads or may be made to say: messages of any role,
// calls and results of tools, descriptions of tools, grammars; prompts, where they are token ids
// as text. Without what the operator's endpoint adds. None is empty. For who judges what is asked.
std::vector<std::string> client_texts(const ChatRequest& request, const ServedModel& model);
std::vector<std::string> client_texts(const CompletionRequest& request, const ServedModel& model);
std::vector<std::string> client_texts(const EmbeddingRequest& request, const ServedModel& model);
std::vector<std::string> client_texts(const RankingRequest& request, const ServedModel& model);

}  // namespace ridge::api
