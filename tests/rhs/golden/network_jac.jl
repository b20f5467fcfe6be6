function (out, v, u, p, t, w, c, k)
    # (1, 2) times (2, 8)
    @simd ivdep for i in 1:8
        w[i] = muladd(p[2 * i], u[2], p[-1 + 2 * i] * u[1])
    end
    c5 = c[5]
    @simd ivdep for i in 1:8
        y1 = tanh_((w[i] + p[16 + i]))
        w[8 + i] = c5 - (y1 * y1)
    end
    for j in 1:2
        @simd ivdep for i in 1:8
            w[8 + 8 * j + i] = p[16 + 8 * j + i] * w[8 + i]
        end
    end
    # (2, 8) times (8, 2)
    for a in 1:2
        @simd ivdep for i in 1:2
            w[30 + 2 * a + i] = muladd(p[14 + i], w[16 + 8 * a], muladd(p[12 + i], w[15 + 8 * a], muladd(p[10 + i], w[14 + 8 * a], muladd(p[8 + i], w[13 + 8 * a], muladd(p[6 + i], w[12 + 8 * a], muladd(p[4 + i], w[11 + 8 * a], muladd(p[2 + i], w[10 + 8 * a], p[i] * w[9 + 8 * a])))))))
        end
    end
    out[1] = c[1] + w[33]
    out[2] = c[3] + w[35]
    out[3] = c[2] + w[34]
    out[4] = c[4] + w[36]
    return 0
end
