function (out, v, u, p, t, w, c, k)
    u2 = u[2]
    u1 = u[1]
    @simd ivdep for i in 1:8
        w[i] = tanh_((muladd(u2, p[2 * i], (u1 * p[-1 + 2 * i])) + p[16 + i]))
    end
    v2 = v[2]
    v1 = v[1]
    c1 = c[1]
    @simd ivdep for i in 1:8
        out[16 + i] = muladd(v2, p[32 + i], (v1 * p[24 + i])) * (c1 - (w[i] * w[i]))
    end
    # (8, 1) times (1, 2)
    @simd ivdep for i in 1:8
        out[-1 + 2 * i] = out[16 + i] * u[1]
        out[2 * i] = out[16 + i] * u[2]
    end
    # (2, 1) times (1, 8)
    outer!(&out[25], &v[1], 1, &w[1], 1, 2, 8)
    out[41] = v1
    out[42] = v2
    return 0
end
