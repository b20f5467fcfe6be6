function (out, v, u, p, t, w, c, k)
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[i] = muladd(p[32 + i], v[2], p[24 + i] * v[1])
    end
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[8 + i] = muladd(p[2 * i], u[2], p[-1 + 2 * i] * u[1])
    end
    @simd ivdep for i in 1:8
        w[16 + i] = tanh_((w[8 + i] + p[16 + i]))
    end
    c1 = c[1]
    @simd ivdep for i in 1:8
        out[16 + i] = w[i] * (c1 - (w[16 + i] * w[16 + i]))
    end
    # (8, 1) times (1, 2)
    @simd ivdep for i in 1:8
        out[-1 + 2 * i] = out[16 + i] * u[1]
        out[2 * i] = out[16 + i] * u[2]
    end
    # (2, 1) times (1, 8)
    outer!(&out[25], &v[1], 1, &w[17], 1, 2, 8)
    v1 = v[1]
    out[41] = v1
    v2 = v[2]
    out[42] = v2
    return 0
end
