// Functions of vectors that all arithmetic shares. Included inside the unnamed namespace of a level, behind its vectors
// and `multiply_add`.

inline Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<LooseFloats*>(to) = values; }
inline Floats all(float value) { return value - Floats{}; }

// Where b is not a number, so is the result.
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

constexpr float ROUNDING = 12582912.0f;  // 1.5 * 2^23: adding it leaves a whole number in the lowest bits

inline Ints rounded(Floats x) { return reinterpret_cast<Ints>(x + ROUNDING) - reinterpret_cast<Ints>(all(ROUNDING)); }

constexpr float SERIES[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};

// e^x for x <= 0: 2^n times a polynomial in what is left, |rest| <= ln(2) / 2 (coefficients as in Cephes).
inline Floats exponential(Floats x) {
    x = larger(all(-87.0f), x);
    Ints whole = rounded(x * 1.44269504f);
    Floats n = __builtin_convertvector(whole, Floats);
    Floats rest = multiply_add(n, all(-0.693359375f), x);
    rest = multiply_add(n, all(2.12194440e-4f), rest);
    Floats y = all(1.9875691500e-4f);
    for (float term : SERIES) y = multiply_add(y, rest, all(term));
    y = multiply_add(y, rest * rest, rest + 1.0f);
    return y * reinterpret_cast<Floats>((whole + 127) << 23);
}
