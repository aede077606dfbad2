#pragma once

#include <memory>
#include <span>
#include <string>

#include "api/answer.h"
#include "api/ollama_request.h"
#include "api/served_model.h"

namespace ridge::api {

// Lines of JSON, or one document; the last has "done": true and the figures. One document where
// nothing is asked (OllamaRequest::is_empty).
std::unique_ptr<Answer> make_answer(const OllamaRequest& request, AnswerHead head);

// The answer to a request that unloads the model.
std::string ollama_unloaded_body(const OllamaRequest& request, const AnswerHead& head);

// As find_model, but Ollama's clients may write ":latest" behind a name that has no tag.
const ServedModel& find_ollama_model(std::span<const ServedModel> models, const std::string& name);

// The answer to a request for vectors that has no text.
std::string ollama_no_vectors_body(const OllamaEmbedding& request, const ServedModel& model);

// GET /api/ps: the models that are in memory, without adapters and endpoints. How long they stay is
// not known here: `expires_at` is far off.
std::string ollama_ps_body(std::span<const ServedModel> models);
// GET /api/tags.
std::string ollama_tags_body(std::span<const ServedModel> models);
// POST /api/show.
std::string ollama_show_body(const ServedModel& model);
// GET /api/version.
std::string ollama_version_body();

}  // namespace ridge::api
