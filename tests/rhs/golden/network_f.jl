function (out, v, u, p, t, w, c, k)
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[i] = muladd(p[2 * i], u[2], p[-1 + 2 * i] * u[1])
    end
    @simd ivdep for i in 1:8
        w[8 + i] = tanh_((p[16 + i] + w[i]))
    end
    # (1, 8) times (8, 2)
    @simd ivdep for i in 1:2
        w[16 + i] = muladd(p[24 + 8 * i], w[16], muladd(p[23 + 8 * i], w[15], muladd(p[22 + 8 * i], w[14], muladd(p[21 + 8 * i], w[13], muladd(p[20 + 8 * i], w[12], muladd(p[19 + 8 * i], w[11], muladd(p[18 + 8 * i], w[10], p[17 + 8 * i] * w[9])))))))
    end
    p41 = p[41]
    u1 = u[1]
    out[1] = (p41 + w[17]) - u1
    p42 = p[42]
    u2 = u[2]
    out[2] = (p42 + w[18]) - u2
    return 0
end
