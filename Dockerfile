# docker build -t clip-prompts . && docker run --gpus all -v /data:/data -v "$PWD/outputs:/home/outputs" clip-prompts run method=maple data=eurosat
FROM python:3.11-slim
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt . && rm -rf /src
ENV DATA=/data
WORKDIR /home
ENTRYPOINT ["clip-prompts"]
CMD ["--help"]
