#pragma once

#include <vector>

#include "model/config.h"
#include "model/decoder_tensors.h"

namespace ridge::model {

// Which of the processes that compute a model together.
struct Rank {
  int rank = 0;  // of [0, ranks)
  int ranks = 1;
};

// How ranks share a model: each has rows of every large matrix, all of their columns, and so some of
// the outputs of every linear, which are gathered before they are inputs. An output is then one sum in
// one order, whoever computes it, and what comes out does not depend on the number of ranks
// (docs/adr/0044).
//
// Heads go whole: those of a KV head stay together, on one rank, or where there are more ranks than KV
// heads, on equally many ranks of which each keeps that KV head's cache. Latents are cached by every
// rank. Norms, routers and what takes queries and keys down to latents are computed by every rank.
class RankShare {
 public:
  // Throws invalid_argument where the model has fewer heads, or rows of a matrix, than ranks, or its
  // KV heads cannot be shared among so many.
  RankShare(const ModelConfig& whole, Rank rank);

  bool is_whole() const { return rank_.ranks == 1; }
  // This rank's: its heads and KV heads, and no tied embedding where there are several.
  const ModelConfig& config() const { return config_; }

  // Columns of each rank's part, [ranks].
  const std::vector<int>& attention() const { return attention_; }  // of what heads give
  const std::vector<int>& hidden() const { return hidden_; }
  const std::vector<int>& vocab() const { return vocab_; }
  const std::vector<int>& feed_forward() const { return feed_forward_; }  // without experts
  const std::vector<int>& expert() const { return expert_; }              // of one expert
  const std::vector<int>& shared() const { return shared_; }              // of shared experts

  // Leaves this rank's part of each source. `tensors` are the whole model's.
  void cut(DecoderTensors& tensors) const;

 private:
  // Heads [first, first + count) and likewise KV heads.
  struct Heads {
    int first = 0, count = 0;
    int first_kv = 0, kv_count = 0;
  };
  Heads heads_of(int rank) const;
  void cut_rows(backend::WeightSource& source) const;
  void cut(LayerTensors& layer) const;
  void cut(LatentTensors& latent) const;

  ModelConfig whole_;
  Rank rank_;
  ModelConfig config_;
  std::vector<int> attention_, hidden_, vocab_, feed_forward_, expert_, shared_;
};

}  // namespace ridge::model
