function (out, v, u, p, t, w, c, k)
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[i] = muladd(p[32 + i], v[2], p[24 + i] * v[1])
    end
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[8 + i] = muladd(p[2 * i], u[2], p[-1 + 2 * i] * u[1])
    end
    c1 = c[1]
    @simd ivdep for i in 1:8
        y1 = tanh_((w[8 + i] + p[16 + i]))
        w[16 + i] = w[i] * (c1 - (y1 * y1))
    end
    # (1, 8) times (8, 2)
    @simd ivdep for i in 1:2
        w[24 + i] = muladd(p[14 + i], w[24], muladd(p[12 + i], w[23], muladd(p[10 + i], w[22], muladd(p[8 + i], w[21], muladd(p[6 + i], w[20], muladd(p[4 + i], w[19], muladd(p[2 + i], w[18], p[i] * w[17])))))))
    end
    v1 = v[1]
    out[1] = (-v1) + w[25]
    v2 = v[2]
    out[2] = (-v2) + w[26]
    return 0
end
