#pragma once

#include "backend/cpu/schedule.h"

namespace ridge::backend::cpu {

// Latent attention comes in two forms that mean the same. Absorbed, queries are taken into the latents' space,
// and all heads share one key of rank + rotary and one value of rank dimensions; expanded, each head's keys
// and values are made from the latents of the whole context first, and are a third as long. The first
// suits single tokens, the second prompts.
struct LatentShape {
  int heads;
  int rank;
  int nope;    // of a head's key, what is made from the latent
  int rotary;  // of it, the rest
  int value;   // of a head's value
};

// Which form a sequence of a step takes: the one that costs less, by multiply-adds and what each takes
// in either form's kernels (docs/performance.md has the command that measures them).
class LatentForms {
 public:
  // kernels: which of the table's (KernelTable::latents); those of `precision`
  LatentForms(const LatentShape& shape, LatentForm form, Precision precision,
              const KernelTable& kernels);

  const LatentShape& shape() const { return shape_; }
  const LatentKernels& kernels() const { return kernels_; }
  // Whether any sequence ever is.
  bool may_expand() const { return form_ != LatentForm::absorbed; }
  // tokens: of the sequence in this step, the last of so many of its context
  bool expands(int tokens, int context) const;
  bool expands(const Run& run, int sequence) const;
  // Whether the token's sequence is absorbed.
  bool absorbs_token(const Run& run, int token) const;

 private:
  const LatentShape shape_;
  const LatentKernels kernels_;
  const LatentForm form_;
};

}  // namespace ridge::backend::cpu
