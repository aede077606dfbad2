#pragma once

#include <memory>
#include <string>

#include "backend/communicator.h"

namespace ridge::communicator {

// Whether Open MPI's library can be loaded here.
bool has_mpi();
// What to do where it cannot be, or where mpirun is not there.
inline constexpr const char* mpi_advice =
    "install Open MPI, of which libmpi.so.40 and mpirun are used: on Debian, apt install openmpi-bin";

// Joins the group that this process was started in by mpirun; until the object goes, which waits for
// the others to leave as well. Only the thread that made it may use it. Where a rank ends without
// leaving, MPI ends the others. Throws unsupported where Open MPI cannot be loaded.
std::unique_ptr<backend::Communicator> join_mpi();

}  // namespace ridge::communicator
