#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "api/answer.h"
#include "api/prompt_text.h"
#include "api/served_model.h"
#include "engine/request.h"

namespace ridge::api {

struct ChatRequest;
struct CompletionRequest;
struct EmbeddingRequest;
struct RankingRequest;

// The text work of a request, without what binds the answer (set_rules): the template is rendered
// and the prompt encoded. May take seconds for a long prompt, so it belongs on no network thread.
// Throws Error(invalid_argument) with the template's own complaint, Error(context_length) for a
// prompt that leaves no room for an answer.
engine::Request prepare(const ChatRequest& request, const ServedModel& model, std::string id);

// How many tokens the prompt of this request has, also where they do not fit the context.
int count_prompt_tokens(const ChatRequest& request, const ServedModel& model);

// One for each prompt, in their order.
std::vector<engine::Request> prepare(const CompletionRequest& request, const ServedModel& model,
                                     const std::string& id);

// One for each text that becomes a vector: inputs; or queries, then documents.
std::vector<engine::Request> prepare(const EmbeddingRequest& request, const ServedModel& model,
                                     const std::string& id);
std::vector<engine::Request> prepare(const RankingRequest& request, const ServedModel& model,
                                     const std::string& id);

// Reads one token and says nothing: what it takes to have the model in memory.
engine::Request prepare_load(const ServedModel& model, std::string id);

// What the answers to these requests begin with; empty unless `echo` is asked for.
std::vector<EchoedPrompt> echoed_prompts(const CompletionRequest& completion,
                                         std::span<const engine::Request> requests,
                                         const ServedModel& model);

// The tokens of a text as the model reads it: with BOS where the vocabulary says so; an empty one
// is BOS, or EOS. Throws Error(invalid_argument) for ids that the model does not have and for an
// empty text where it has neither of these, and Error(context_length), all naming `param`.
std::vector<int32_t> encode_prompt(const PromptText& prompt, const ServedModel& model,
                                   const std::string& param);

// Throws Error(invalid_argument) where an id is not below `vocab_size`.
void check_ids(std::span<const int32_t> ids, const std::string& param, int vocab_size);

// A conversation as the model's template writes it, and the tokens of that.
std::string render_chat(const ChatRequest& chat, const ServedModel& model,
                        bool add_generation_prompt = true);
std::vector<int32_t> encode_chat(const std::string& rendered, const ServedModel& model);

}  // namespace ridge::api
