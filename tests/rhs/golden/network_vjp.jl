function (out, v, u, p, t, w, c, k)
    v2 = v[2]
    v1 = v[1]
    c1 = c[1]
    u2 = u[2]
    u1 = u[1]
    @simd ivdep for i in 1:8
        y1 = tanh_((muladd(u2, p[2 * i], (u1 * p[-1 + 2 * i])) + p[16 + i]))
        w[i] = muladd(v2, p[32 + i], (v1 * p[24 + i])) * (c1 - (y1 * y1))
    end
    # (1, 8) times (8, 2)
    @simd ivdep for i in 1:2
        w[8 + i] = muladd(p[14 + i], w[8], muladd(p[12 + i], w[7], muladd(p[10 + i], w[6], muladd(p[8 + i], w[5], muladd(p[6 + i], w[4], muladd(p[4 + i], w[3], muladd(p[2 + i], w[2], p[i] * w[1])))))))
    end
    out[1] = (-v1) + w[9]
    out[2] = (-v2) + w[10]
    return 0
end
