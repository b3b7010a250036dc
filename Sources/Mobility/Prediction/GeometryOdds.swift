/// How often a step with a given turn, distance rank and recency was taken when it could have been.
package struct GeometryOdds {
    private var chosen: [Float] = Array(repeating: 0.5, count: 1024)
    private var offered: [Float] = Array(repeating: 8, count: 1024)

    /// Both columns, one after the other.
    package var parameters: [Float] {
        get { chosen + offered }
        set {
            guard newValue.count == 2048, newValue.allSatisfy({ $0 > 0 && $0.isFinite }) else { return }
            chosen = Array(newValue[..<1024])
            offered = Array(newValue[1024...])
        }
    }

    func odds(_ bucket: Int) -> Float { chosen[bucket] / offered[bucket] }

    /// Row of the table.
    ///
    /// `cosine` is of the turn, below -2 where not known; `rank` of the distance, from 0.
    static func bucket(cosine: Float, rank: Int, recency: Int, speed: Int) -> Int {
        let limits: [Float] = [0.92, 0.7, 0.38, 0, -0.38, -0.8, -2]
        var turn = 0
        while turn < 7, cosine <= limits[turn] { turn += 1 }
        return ((speed * 4 + recency) * 8 + min(rank / 2, 7)) * 8 + turn
    }

    mutating func learn(_ buckets: UnsafePointer<Int32>, _ count: Int, _ hit: Int) {
        for c in 0..<count {
            let bucket = Int(buckets[c])
            offered[bucket] += 1
            if c == hit { chosen[bucket] += 1 }
            if offered[bucket] > 20_000 {
                offered[bucket] *= 0.5
                chosen[bucket] *= 0.5
            }
        }
    }
}
