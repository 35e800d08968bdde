# A server of readings, on the CPU, by ONNX Runtime: without JAX, and without a root user.
#   docker build -t kkanji .
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only kkanji
# No test of this project builds it. Its pip commands and the server were run outside Docker.
FROM python:3.12-slim

WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY configs ./configs
COPY data_tools ./data_tools
COPY kkanji_jax ./kkanji_jax
RUN pip install --no-cache-dir -c constraints.txt \
        fastapi jinja2 numpy onnxruntime pillow python-multipart uvicorn \
    && pip install --no-cache-dir --no-deps . \
    && rm -rf /src/*

WORKDIR /
RUN useradd --system --no-create-home --shell /usr/sbin/nologin kkanji
USER kkanji
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["kkanji-serve", "--host", "0.0.0.0"]
