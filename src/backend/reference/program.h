#pragma once

#include <vector>

#include "backend/communicator.h"
#include "backend/ops.h"
#include "backend/reference/buffer.h"

namespace ridge::backend::reference {

// Runs a recording op by op, each value in a buffer of its own.
class ReferenceProgram : public Program {
 public:
  // communicator: nullptr for one rank alone. Throws unsupported for a collective over ranks that
  // it does not have, or that is none of gathering.
  explicit ReferenceProgram(const Recording& recording, Communicator* communicator = nullptr);

  const Buffer& output(int index) const override;
  Buffer& given(int index) override;
  uint64_t arena_bytes() const override;
  void run(const StepShape& shape);
  // Of Recording::storages; for who runs an op for another device.
  HostBuffer& storage(int index) { return storages_.at(static_cast<size_t>(index)); }

 private:
  Recording recording_;
  Communicator* communicator_;
  std::vector<HostBuffer> storages_;  // as Recording::storages
};

}  // namespace ridge::backend::reference
