// Constants of exponentials for loops and kernels of any vector width: e^x = 2^n 2^r with n = round(x log2 e) and |r| <= 1/2.
#pragma once

namespace deepseek::kernels {

constexpr float kLog2E = 1.44269504f;
/// x log2 e + this rounds to the nearest integer (1.5 * 2^23), and its lowest bits, shifted left by 23, are then 2^n: 0 for n = -127.
constexpr float kRoundToPower = 12582912.0f + 127.0f;
/// 2^r by degree 3, 4 and 5, from the highest power on: the least largest relative error among the polynomials that are 1 at 0, which is 2^-13, 2^-18, 2^-22.
constexpr float kPowerOf2[3][6] = {{0.0550089329f, 0.242210969f, 0.693282902f, 1.0f},
                                   {0.00958285294f, 0.0559064262f, 0.240240991f, 0.693124175f, 1.0f},
                                   {0.00132647273f, 0.00967151299f, 0.0555073358f, 0.240222424f, 0.693147004f, 1.0f}};

}  // namespace deepseek::kernels
