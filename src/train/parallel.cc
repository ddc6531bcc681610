#include "train/parallel.h"

#include <algorithm>
#include <cstdlib>
#ifdef DEEPSEEK_MPI
#include <mpi.h>
#endif

namespace deepseek::train {

#ifdef DEEPSEEK_MPI
namespace {

// Starting MPI alone costs half a second and opens sockets, so it is started only under a launcher.
bool launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

void finalize() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Finalize();
}

}  // namespace

Parallel Parallel::join() {
  Parallel out;
  if (!launched()) return out;
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized == 0) {
    MPI_Init(nullptr, nullptr);
    std::atexit(finalize);
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &out.rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &out.size_);
  return out;
}

// Reduce and broadcast instead of allreduce: every process gets the same bits.
void Parallel::sum(std::span<float> values) const {
  if (size_ == 1) return;
  constexpr size_t kPiece = size_t{1} << 28;
  for (size_t at = 0; at < values.size(); at += kPiece) {
    const int count = static_cast<int>(std::min(kPiece, values.size() - at));
    MPI_Reduce(rank_ == 0 ? MPI_IN_PLACE : values.data() + at, values.data() + at, count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Bcast(values.data() + at, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
  }
}

void Parallel::sum(double& value) const {
  if (size_ == 1) return;
  double total = 0;
  MPI_Reduce(&value, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Bcast(&total, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  value = total;
}

bool Parallel::any(bool value) const {
  if (size_ == 1) return value;
  int mine = value ? 1 : 0, all = 0;
  MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  return all != 0;
}

void Parallel::wait_for_all() const {
  if (size_ > 1) MPI_Barrier(MPI_COMM_WORLD);
}

void Parallel::abort(int code) const {
  if (size_ > 1) MPI_Abort(MPI_COMM_WORLD, code);
}
#else
Parallel Parallel::join() { return {}; }
void Parallel::sum(std::span<float>) const {}
void Parallel::sum(double&) const {}
bool Parallel::any(bool value) const { return value; }
void Parallel::wait_for_all() const {}
void Parallel::abort(int) const {}
#endif

}  // namespace deepseek::train
