/// A small network that gives each of several candidates a score from features of its own and features that all share.
///
/// score = direct · own + output · leaky(bias + Σ shared·W + Σ own·W). Trained online, one sample at a time, with
/// gradients scaled by their running root mean square (RMSProp).
package struct ScoringNetwork {
    package typealias Vector = SIMD16<Float>

    let ownCount: Int
    let sharedCount: Int
    let outputs: Int
    package var rate: Float
    /// Rows: own features, shared features, bias; then one row per output.
    private(set) var hidden: [Vector]
    private(set) var output: [Vector]
    /// `outputs` rows of `ownCount` + 1 (the last is the output's bias).
    private(set) var direct: [Float]
    private var hiddenSquare: [Vector]
    private var outputSquare: [Vector]
    private var directSquare: [Float]
    private var hiddenGradient: [Vector]
    private var outputGradient: [Vector]
    private var directGradient: [Float]
    private var sharedActivation: Vector = .zero
    private var sharedGradient: Vector = .zero

    init(own: Int, shared: Int, outputs: Int, rate: Float, seed: UInt64) {
        ownCount = own
        sharedCount = shared
        self.outputs = outputs
        self.rate = rate
        var generator = SeededGenerator(seed: seed)
        let scale = 1 / Float(own + shared).squareRoot()
        hidden = (0..<(own + shared + 1)).map { _ in
            var row = Vector.zero
            for lane in 0..<16 { row[lane] = generator.symmetric() * scale }
            return row
        }
        output = (0..<outputs).map { _ in
            var row = Vector.zero
            for lane in 0..<16 { row[lane] = generator.symmetric() * 0.1 }
            return row
        }
        direct = Array(repeating: 0, count: outputs * (own + 1))
        hiddenSquare = Array(repeating: Vector(repeating: 1e-2), count: own + shared + 1)
        outputSquare = Array(repeating: Vector(repeating: 1e-2), count: outputs)
        directSquare = Array(repeating: 1e-2, count: outputs * (own + 1))
        hiddenGradient = Array(repeating: .zero, count: own + shared + 1)
        outputGradient = Array(repeating: .zero, count: outputs)
        directGradient = Array(repeating: 0, count: outputs * (own + 1))
    }

    mutating func setDirect(_ output: Int, _ feature: Int, _ value: Float) {
        direct[output * (ownCount + 1) + feature] = value
    }

    /// Takes the features that all candidates of a sample share.
    mutating func setShared(_ features: [Float], at start: Int) {
        var sum = hidden[ownCount + sharedCount]
        for index in 0..<sharedCount { sum += hidden[ownCount + index] * features[start + index] }
        sharedActivation = sum
        sharedGradient = .zero
    }

    @inline(__always)
    private func activation(_ features: [Float], _ start: Int) -> Vector {
        var sum = sharedActivation
        for index in 0..<ownCount { sum += hidden[index] * features[start + index] }
        return sum
    }

    @inline(__always)
    private func leaky(_ value: Vector) -> Vector {
        value.replacing(with: value * 0.1, where: value .< 0)
    }

    /// Score of the candidate whose own features begin at `start`.
    func score(_ features: [Float], at start: Int, output row: Int = 0) -> Float {
        let h = leaky(activation(features, start))
        var sum = (h * output[row]).sum() + direct[row * (ownCount + 1) + ownCount]
        for index in 0..<ownCount { sum += direct[row * (ownCount + 1) + index] * features[start + index] }
        return sum
    }

    /// Adds the gradient of a candidate, `slope` being the derivative of the loss by its score.
    mutating func accumulate(_ features: [Float], at start: Int, slope: Float, output row: Int = 0) {
        let raw = activation(features, start)
        let h = leaky(raw)
        outputGradient[row] += h * slope
        var back = output[row] * slope
        back.replace(with: back * 0.1, where: raw .< 0)
        for index in 0..<ownCount {
            let value = features[start + index]
            hiddenGradient[index] += back * value
            directGradient[row * (ownCount + 1) + index] += slope * value
        }
        directGradient[row * (ownCount + 1) + ownCount] += slope
        sharedGradient += back
    }

    /// Moves the weights against the gradient accumulated since the last call.
    mutating func update(_ features: [Float], sharedAt start: Int) {
        for index in 0..<sharedCount { hiddenGradient[ownCount + index] = sharedGradient * features[start + index] }
        hiddenGradient[ownCount + sharedCount] = sharedGradient
        let keep: Float = 0.999
        for index in hidden.indices {
            let g = hiddenGradient[index]
            let square = hiddenSquare[index] * keep + g * g * (1 - keep)
            hiddenSquare[index] = square
            hidden[index] -= g * rate / (square.squareRoot() + 1e-4)
            hiddenGradient[index] = .zero
        }
        for index in output.indices {
            let g = outputGradient[index]
            let square = outputSquare[index] * keep + g * g * (1 - keep)
            outputSquare[index] = square
            output[index] -= g * rate / (square.squareRoot() + 1e-4)
            outputGradient[index] = .zero
        }
        for index in direct.indices {
            let g = directGradient[index]
            let square = directSquare[index] * keep + g * g * (1 - keep)
            directSquare[index] = square
            direct[index] -= g * rate / (square.squareRoot() + 1e-4)
            directGradient[index] = 0
        }
        sharedGradient = .zero
    }
}
