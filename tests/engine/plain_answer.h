#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/step_runner.h"
#include "kvcache/block_pool.h"
#include "sampling/sampler.h"
#include "text/detokenizer.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace ridge::engine {

// What one choice of a request is told.
struct PlainAnswer {
  std::vector<int32_t> tokens;  // without the one that ends the generation
  std::vector<float> logprobs;  // of these
  std::vector<size_t> ends;     // bytes of text after each, before any stop sequence is cut off
  std::string text;
  std::string stop_sequence;
  FinishReason reason = FinishReason::length;
};

// An answer by its definition, without a step loop: the logits of every token come from one pass
// over all that stands before it, so that no cache, chunk, guess or other request has a part in
// them. Of requests with at most one stop sequence, a grammar, and neither reasoning nor tools.
class PlainModel {
 public:
  // The runner's steps must hold a whole context.
  PlainModel(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer)
      : runner_(runner), tokenizer_(std::move(tokenizer)) {}

  PlainAnswer answer(const Request& request, int choice) {
    sampling::Sampler sampler(request.sampling, request.prompt_tokens,
                              static_cast<uint32_t>(choice));
    std::optional<text::GrammarMatcher> matcher;
    if (request.grammar) matcher = request.grammar->start();
    PlainAnswer answer;
    std::vector<int32_t> context = request.prompt_tokens;
    std::vector<int32_t> tokens;
    while (static_cast<int>(tokens.size()) < request.max_tokens) {
      sampling::Constraints constraints;
      if (matcher) constraints.allowed = matcher->mask();
      const sampling::Pick pick =
          sampler.pick(logits_after(context, request.adapter), constraints, workspace_);
      sampler.accept(pick.token);
      context.push_back(pick.token);
      tokens.push_back(pick.token);
      if (tokenizer_->is_end_of_generation(pick.token)) {
        answer.reason = FinishReason::stop;
        break;
      }
      if (matcher) matcher->consume(pick.token);
      answer.tokens.push_back(pick.token);
      answer.logprobs.push_back(pick.logprob);
      const std::string text = text_of(answer.tokens, /*is_whole=*/false);
      answer.ends.push_back(text.size());
      if (cut_at_stop(request, text, answer)) return answer;
    }
    answer.text = text_of(answer.tokens, /*is_whole=*/true);
    return answer;
  }

 private:
  std::span<const float> logits_after(const std::vector<int32_t>& context, int adapter) {
    const auto [known, is_new] = known_.try_emplace(std::pair(adapter, context));
    if (is_new) {
      const auto logits = compute(context, adapter);
      known->second.assign(logits.begin(), logits.end());
    }
    return known->second;
  }

  std::span<const float> compute(const std::vector<int32_t>& context, int adapter) {
    kvcache::BlockPool pool(runner_.limits().blocks);
    kvcache::BlockTable blocks(pool, runner_.limits().block_tokens);
    RIDGE_ASSERT(blocks.reserve(static_cast<int>(context.size())));
    StepInputs inputs(blocks_per_sequence(runner_.limits()));
    inputs.add(context, 0, blocks, /*logits=*/1, adapter);
    return runner_.run(inputs).first(static_cast<size_t>(tokenizer_->vocab_size()));
  }

  std::string text_of(const std::vector<int32_t>& tokens, bool is_whole) const {
    text::Detokenizer detokenizer(tokenizer_);
    std::string text;
    for (const int32_t token : tokens) text += detokenizer.push(token);
    return is_whole ? text + detokenizer.flush() : text;
  }

  static bool cut_at_stop(const Request& request, const std::string& text, PlainAnswer& answer) {
    for (const std::string& stop : request.stop) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      answer.text = text.substr(0, at);
      answer.stop_sequence = stop;
      answer.reason = FinishReason::stop;
      return true;
    }
    return false;
  }

  StepRunner& runner_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  sampling::Workspace workspace_;
  // Requests differ in their ends alone.
  std::map<std::pair<int, std::vector<int32_t>>, std::vector<float>> known_;
};

}  // namespace ridge::engine
