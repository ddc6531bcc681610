#pragma once

namespace deepseek::base {

/// libgomp's threads spin for milliseconds at the end of each loop, which on a busy machine is time that the others need: at a load
/// of 10 a training step took 30 s, and takes 9 s with a short spin, which costs nothing on a quiet one. libgomp reads the setting
/// when it is loaded, so this program starts again, once; where it cannot, or the user chose (OMP_WAIT_POLICY, GOMP_SPINCOUNT), it
/// goes on as it is. Call it before anything that must not happen twice.
void restart_with_brief_spin(char** argv);

}  // namespace deepseek::base
