function (out, v, u, p, t, w, c, k)
    c5 = c[5]
    u2 = u[2]
    u1 = u[1]
    @simd ivdep for i in 1:8
        y1 = tanh_((muladd(u2, p[2 * i], (u1 * p[-1 + 2 * i])) + p[16 + i]))
        w[i] = c5 - (y1 * y1)
    end
    for j in 1:2
        @simd ivdep for i in 1:8
            w[8 * j + i] = p[16 + 8 * j + i] * w[i]
        end
    end
    # (2, 8) times (8, 2)
    for a in 1:2
        @simd ivdep for i in 1:2
            w[22 + 2 * a + i] = muladd(p[14 + i], w[8 + 8 * a], muladd(p[12 + i], w[7 + 8 * a], muladd(p[10 + i], w[6 + 8 * a], muladd(p[8 + i], w[5 + 8 * a], muladd(p[6 + i], w[4 + 8 * a], muladd(p[4 + i], w[3 + 8 * a], muladd(p[2 + i], w[2 + 8 * a], p[i] * w[1 + 8 * a])))))))
        end
    end
    out[1] = c[1] + w[25]
    out[2] = c[3] + w[27]
    out[3] = c[2] + w[26]
    out[4] = c[4] + w[28]
    return 0
end
