function (out, v, u, p, t, w, c, k)
    u2 = u[2]
    u1 = u[1]
    @simd ivdep for i in 1:8
        w[i] = tanh_((p[16 + i] + muladd(u2, p[2 * i], (u1 * p[-1 + 2 * i]))))
    end
    # (1, 8) times (8, 2)
    @simd ivdep for i in 1:2
        w[8 + i] = muladd(p[24 + 8 * i], w[8], muladd(p[23 + 8 * i], w[7], muladd(p[22 + 8 * i], w[6], muladd(p[21 + 8 * i], w[5], muladd(p[20 + 8 * i], w[4], muladd(p[19 + 8 * i], w[3], muladd(p[18 + 8 * i], w[2], p[17 + 8 * i] * w[1])))))))
    end
    p41 = p[41]
    out[1] = (p41 + w[9]) - u1
    p42 = p[42]
    out[2] = (p42 + w[10]) - u2
    return 0
end
