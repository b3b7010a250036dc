import Foundation

/// The weights that a predictor ships with, so that it is useful on the first day.
///
/// Trained by `PredictorTraining` over the training days of two simulated networks; nothing in
/// them names a place, a user or an access point. Kept as base64 of little-endian 16-bit numbers in 1/4096.
enum InitialWeights {
    private static let unit: Float = 4096

    static func load(into models: Models, _ geometry: inout GeometryOdds) {
        for (model, text) in zip(models.shipped, InitialWeightsData.models) {
            model.parameters = decode(text)
        }
        let logarithms = decode(InitialWeightsData.geometry)
        guard logarithms.count == geometry.parameters.count else { return }
        geometry.parameters = logarithms.map { FastMath.exp($0) }
    }

    /// The text of trained parameters.
    static func encode(_ values: [Float]) -> String {
        var bytes = Data()
        for value in values {
            let scaled = Int16(clamping: Int((value * unit).rounded()))
            bytes.append(UInt8(truncatingIfNeeded: scaled))
            bytes.append(UInt8(truncatingIfNeeded: scaled >> 8))
        }
        return bytes.base64EncodedString()
    }

    static func decode(_ text: String) -> [Float] {
        guard let bytes = Data(base64Encoded: text) else { return [] }
        return stride(from: 0, to: bytes.count - 1, by: 2).map { place in
            Float(Int16(bitPattern: UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8)) / unit
        }
    }
}
