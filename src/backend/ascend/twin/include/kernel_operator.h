#pragma once

// The AscendC interface as kernels include it. On a machine with the toolkit, a header of the same
// name comes from there; this one is found only when kernels are compiled against the twin.
#include "backend/ascend/twin/interface/cube.h"
#include "backend/ascend/twin/interface/move.h"
#include "backend/ascend/twin/interface/queue.h"
#include "backend/ascend/twin/interface/sync.h"
#include "backend/ascend/twin/interface/tensor.h"
#include "backend/ascend/twin/interface/types.h"
#include "backend/ascend/twin/interface/vector.h"
